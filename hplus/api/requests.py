"""What comes in over HTTP: one pydantic class for each body, read as the socket reads a frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from hplus import errors
from hplus.protocol import wire

Body = TypeVar("Body", bound=wire.Shape)


class StrictJsonParser(BaseParser):
    """JSON with the socket's rules: no NaN, no NUL, no lone surrogates, no key twice."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:
        try:
            text = stream.read(wire.MAX_MESSAGE_BYTES + 1).decode("utf-8")
        except UnicodeDecodeError:
            raise errors.InvalidJson(reason="not UTF-8") from None
        return wire.parse(text) if text.strip() else {}


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


class _Named(wire.Shape):
    id: wire.Id


def id_of(text: Any) -> str:
    """An id from an address or a form. Raises ValidationFailed where it can't be one."""
    return read(_Named, {"id": text}).id
