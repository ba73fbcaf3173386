"""HTTP requests: bodies and queries validated by pydantic classes, as the socket validates a frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from django.core.exceptions import SuspiciousOperation
from pydantic import ValidationError
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.request import Request

from hplus import errors
from hplus.protocol import wire

Body = TypeVar("Body", bound=wire.Shape)


class StrictJsonParser(BaseParser):
    """JSON with the socket's rules: no NaN, no NUL, no lone surrogates, no key twice. A BOM is skipped.

    A view whose body is one request names its type as `request_type`, for the rules of that type.
    """

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:
        try:
            text = stream.read(wire.MAX_MESSAGE_BYTES + 1).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise errors.InvalidJson(reason="not UTF-8") from None
        view = (parser_context or {}).get("view")
        request_type = getattr(view, "request_type", None)
        return wire.parse(text, request_type, most_values=None) if text.strip() else {}


class FormParser(MultiPartParser):
    """Forms with a file; one that can't be read is refused, whatever about it can't."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except (SuspiciousOperation, UnicodeError, LookupError):  # too many fields; unknown or wrong charsets
            raise errors.InvalidMessage("The form can't be read.", reason="the form can't be read") from None


def body_of(request: Request, shape: type[Body], **in_address: str) -> Body:
    """Read the JSON body like a frame, flat or under `data`; values from the address win.

    Raises ValidationFailed or InvalidMessage.
    """
    if not isinstance(request.data, Mapping):
        raise errors.InvalidMessage(reason="the body is one JSON object")
    given = {name: value for name, value in request.data.items() if name not in request.FILES}
    if issubclass(shape, wire.Request):
        given = shape.fields_of(given)
    return read(shape, {**given, **in_address})


def query_of(request: Request, shape: type[Body]) -> Body:
    """Read the query's values. Raises ValidationFailed."""
    return read(shape, request.query_params.dict())


def read(shape: type[Body], fields: dict[str, Any]) -> Body:
    """Validate fields; null and blank ones are absent. Raises ValidationFailed."""
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
    """Return an id from an address or a form. Raises ValidationFailed where it cannot be one."""
    return read(_Named, {"id": text}).id
