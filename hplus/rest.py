"""REST answers as the socket does: the same bodies in, the same coded refusals out."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

from django.http import Http404
from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import extend_schema
from pydantic import ValidationError
from rest_framework import exceptions
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from hplus import errors, wire

logger = logging.getLogger(__name__)


class StrictJsonParser(BaseParser):
    """JSON with the socket's rules: no NaN, no NUL, no lone surrogates, no key twice."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:
        try:
            text = stream.read(wire.MAX_MESSAGE_BYTES + 1).decode("utf-8")
        except UnicodeDecodeError:
            raise errors.InvalidJson(reason="not UTF-8") from None
        return wire.parse(text) if text.strip() else {}


def error_body(refusal: errors.Refusal) -> dict[str, Any]:
    body: dict[str, Any] = {
        "code": refusal.code,
        "message": refusal.message,
        "details": refusal.details,
    }
    if refusal.retry_after is not None:
        body["retryAfter"] = refusal.retry_after
    return body


def answer_exception(unexpected: Exception, context: dict[str, Any]) -> Response:
    """The one place where a refusal becomes an HTTP answer."""
    refusal = as_refusal(unexpected)
    headers = {"WWW-Authenticate": "Bearer"} if refusal.http_status == 401 else {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(int(refusal.retry_after) + 1)
    return Response(error_body(refusal), status=refusal.http_status, headers=headers)


_STATUS_CODES: dict[int, type[errors.Refusal]] = {
    401: errors.AuthenticationFailed,
    403: errors.Forbidden,
    413: errors.MessageTooLarge,
    429: errors.RateLimited,
}


def as_refusal(unexpected: Exception) -> errors.Refusal:
    """Any exception as the refusal a client may see; what was not foreseen is logged with a reference."""
    if isinstance(unexpected, errors.Refusal):
        return unexpected
    if isinstance(unexpected, Http404):
        return _with_status(errors.Refusal("There is nothing at this address."), "NOT_FOUND", 404)
    if isinstance(unexpected, exceptions.APIException):
        kind = _STATUS_CODES.get(unexpected.status_code, errors.InvalidMessage)
        text = (
            json.dumps(unexpected.detail)
            if not isinstance(unexpected.detail, str)
            else str(unexpected.detail)
        )
        return _with_status(kind(text), kind.code, unexpected.status_code)
    return internal_error(unexpected)


def _with_status(refusal: errors.Refusal, code: str, status: int) -> errors.Refusal:
    refusal.code, refusal.http_status = code, status
    return refusal


def internal_error(unexpected: BaseException) -> errors.InternalError:
    """Log what was not foreseen under a reference, and the refusal that carries it."""
    reference = uuid.uuid4().hex[:12]
    logger.error("Unforeseen (%s)", reference, exc_info=unexpected)
    return errors.InternalError(reference=reference)


# Bodies: one pydantic class each, on the socket as over HTTP

Body = TypeVar("Body", bound=wire.Shape)


def body_of(request: Request, shape: type[Body], **in_address: str) -> Body:
    """The JSON body, read as the socket reads a frame, flat or under `data`; what stands in the
    address wins.

    Raises ValidationFailed or InvalidMessage.
    """
    if not isinstance(request.data, Mapping):
        raise errors.InvalidMessage(reason="the body is one JSON object")
    given = {**request.data}
    if issubclass(shape, wire.Request):
        given = shape.fields_of(given)
    return read(shape, {**given, **in_address})


def query_of(request: Request, shape: type[Body]) -> Body:
    """The query's values, read likewise."""
    return read(shape, request.query_params.dict())


def read(shape: type[Body], fields: dict[str, Any]) -> Body:
    given = {k: v for k, v in fields.items() if v is not None and v != ""}
    if not wire.is_storable(given):
        raise errors.ValidationFailed("NUL or a lone surrogate in a string.", reason="not storable")
    try:
        return shape.model_validate(given)
    except ValidationError as invalid:
        raise wire.refusal_of(invalid) from None


def shaped(shape: wire.Shape, status: int = 200) -> Response:
    """The answer in this shape."""
    return Response(shape.as_json(), status=status)


class _Named(wire.Shape):
    id: wire.Id


def id_of(text: Any) -> str:
    """An id from an address or a form. Raises ValidationFailed where it can't be one."""
    return read(_Named, {"id": text}).id


def described(asked: type[wire.Shape] | None, answered: type[wire.Shape] | None, **more: Any) -> Any:
    """The schema of a view: what it takes and what it gives."""
    return extend_schema(request=asked, responses=answered or {204: None}, **more)


def _shapes(base: type[wire.Shape]) -> dict[str, type[wire.Shape]]:
    """Every shape by its name: one that stands inside others is one component with itself alone."""
    found = {sub.__name__: sub for sub in base.__subclasses__()}
    for sub in base.__subclasses__():
        found.update(_shapes(sub))
    return found


class ShapeSchema(OpenApiSerializerExtension):
    """drf-spectacular reads the same pydantic classes."""

    target_class = "hplus.wire.Shape"
    match_subclasses = True

    def get_name(self, auto_schema: Any, direction: str) -> str:
        return str(self.target.__name__)

    def map_serializer(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        schema = self.target.model_json_schema(
            ref_template="#/components/schemas/{model}",
            mode="validation" if direction == "request" else "serialization",
        )
        for name, part in schema.pop("$defs", {}).items():
            shape = _shapes(wire.Shape).get(name, name)
            component = ResolvedComponent(name, ResolvedComponent.SCHEMA, schema=part, object=shape)
            auto_schema.registry.register_on_missing(component)
        return dict(schema)
