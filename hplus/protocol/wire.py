"""The only file that knows camelCase: requests (client to server), events (server to client), JSON, ids."""

from __future__ import annotations

import functools
import json
import os
import re
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, NoReturn, Self

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from hplus import errors
from hplus.protocol.numbers import TEXT_CHARACTERS, UnreadableNumber
from hplus.protocol.texts import has_visible, nfc

MAX_MESSAGE_BYTES = 64 * 1024
MAX_TEXT_CHARACTERS = 8_000  # of a chat message
MAX_DEPTH = 32
MAX_DIGITS = 32  # int() on thousands of digits takes seconds
MAX_VALUES = 4000  # 64 KiB of empty lists are twenty thousand objects, and fifty times as many bytes


# Reading text


def parse(
    text: str | bytes, request_type: str | None = None, *, most_values: int | None = MAX_VALUES
) -> dict[str, Any]:
    """Parse one frame, or a body of this request type, to one JSON object.

    Refuses what `json.loads` accepts but PostgreSQL or a client cannot take: NaN, Infinity, 1e999, numbers
    of thousands of digits, keys given twice, NUL, lone surrogates and deep nesting. In an urgent request NUL
    and lone surrogates become U+FFFD instead, and any number of values is read; in one that
    `takes_unbounded_numbers` each such number becomes an UnreadableNumber. Raises InvalidJson,
    InvalidMessage, MessageTooLarge, or UnicodeDecodeError for bytes that are not UTF-8.
    """
    text = text if isinstance(text, str) else text.decode()
    try:
        return _parse(text, request_type, most_values)
    except errors.Refusal as refusal:
        refusal.frame = envelope_in(text)
        raise


def _parse(text: str, request_type: str | None, most_values: int | None) -> dict[str, Any]:
    if len(text) > MAX_MESSAGE_BYTES or len(text.encode("utf-8", "replace")) > MAX_MESSAGE_BYTES:
        raise errors.MessageTooLarge(maxMessageBytes=MAX_MESSAGE_BYTES)
    has_too_many = most_values is not None and len(text) > most_values and _has_more(most_values, text)
    if has_too_many and not _may_be_urgent(text):
        raise _too_many_values(most_values)
    try:
        frame = _DECODER.decode(text)
    except (ValueError, RecursionError) as unreadable:
        lenient = _with_unreadable_numbers(text, request_type)
        if lenient is None:
            raise errors.InvalidJson(reason=_reason(unreadable)) from None
        frame = lenient
    if not isinstance(frame, dict):
        raise errors.InvalidMessage(reason="a frame is one JSON object")
    if has_too_many and frame.get("type") not in _types_with("urgent"):
        raise _too_many_values(most_values)
    if text.count("{") + text.count("[") > MAX_DEPTH and depth(frame) > MAX_DEPTH:
        raise errors.InvalidJson(reason=f"nested deeper than {MAX_DEPTH} levels")
    if "\\u" in text and not is_storable(frame):
        named = request_type or frame.get("type")
        if not isinstance(named, str) or named not in _types_with("urgent"):
            raise errors.InvalidJson(reason="NUL or a lone surrogate in a string")
        frame = _without_unstorable(frame)
    return frame


def _has_more(most_values: int, text: str) -> bool:
    """Whether this JSON text has more values than this; each but the first stands behind one of `,[{`."""
    return _openers(text) > most_values and _openers(_STRING.sub('""', text)) > most_values


def _openers(text: str) -> int:
    return text.count(",") + text.count("[") + text.count("{")


def _may_be_urgent(text: str) -> bool:
    return "\\u" in text or any(f'"{name}"' in text for name in _types_with("urgent"))


def _too_many_values(most: int | None) -> errors.InvalidJson:
    return errors.InvalidJson(reason=f"more than {most} values", maxValues=most)


def envelope_in(text: str) -> dict[str, str]:
    """Return type, requestId and clientMessageId from the text of a frame that was refused unread."""
    found: dict[str, str] = {}
    for name, value in _ENVELOPE.findall(text):
        try:
            found.setdefault(name, json.loads(value))
        except ValueError:
            continue
    return {name: value for name, value in found.items() if is_storable(value)}


_ENVELOPE = re.compile(r'"(type|requestId|clientMessageId)"\s*:\s*("(?:[^"\\]|\\.){1,1000}")')


def is_storable(value: Any) -> bool:
    """Whether PostgreSQL can store every string in this JSON value: none has a NUL or a lone surrogate."""
    if isinstance(value, str):
        return not _UNSTORABLE.search(value)
    text = json.dumps(value, ensure_ascii=False)
    return "\\u0000" not in text.replace("\\\\", "") and not any("\ud800" <= c <= "\udfff" for c in text)


def _without_unstorable(value: Any) -> Any:
    """Replace each character that PostgreSQL cannot store by U+FFFD."""
    if isinstance(value, str):
        return _UNSTORABLE.sub(UNREADABLE, value)
    if isinstance(value, dict):
        return {_without_unstorable(key): _without_unstorable(inner) for key, inner in value.items()}
    return [_without_unstorable(inner) for inner in value] if isinstance(value, list) else value


@functools.cache
def _types_with(flag: str) -> frozenset[str]:
    """The request types whose classes set this flag."""
    return frozenset(request.type for request in subclasses(Request) if getattr(request, flag))


def _with_unreadable_numbers(text: str, request_type: str | None) -> dict[str, Any] | None:
    """The frame with UnreadableNumbers, where its type takes them."""
    try:
        frame = _LENIENT_DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(frame, dict):
        return None
    named = request_type or frame.get("type")
    return frame if isinstance(named, str) and named in _types_with("takes_unbounded_numbers") else None


def depth(value: Any) -> int:
    """Return how many objects and lists are nested in one another."""
    level, layer = 0, [value]
    while layer := [inner for outer in layer for inner in _inside(outer)]:
        level += 1
    return level


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _not_a_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _float(digits: str) -> float:
    number = float(digits)
    return number if abs(number) != float("inf") else _not_a_number(digits[:20])


def _int(digits: str) -> int:
    return int(digits) if len(digits) <= MAX_DIGITS else _not_a_number(f"a number of {len(digits)} digits")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key is given twice")
    return keys


def _reason(unreadable: Exception) -> str:
    return "nested too deeply" if isinstance(unreadable, RecursionError) else str(unreadable)[:120]


_DECODER = json.JSONDecoder(
    parse_constant=_not_a_number, parse_float=_float, parse_int=_int, object_pairs_hook=_unique
)


_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def _lenient_float(digits: str) -> float | UnreadableNumber:
    number = float(digits)
    return number if abs(number) != float("inf") else UnreadableNumber(digits[:TEXT_CHARACTERS])


def _lenient_int(digits: str) -> int | UnreadableNumber:
    return int(digits) if len(digits) <= MAX_DIGITS else UnreadableNumber(digits[:TEXT_CHARACTERS])


_LENIENT_DECODER = json.JSONDecoder(
    parse_constant=UnreadableNumber,
    parse_float=_lenient_float,
    parse_int=_lenient_int,
    object_pairs_hook=_unique,
)


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
UNREADABLE = "\ufffd"

# Types of fields


def _blank_is_absent(value: Any) -> Any:
    return None if isinstance(value, str) and not has_visible(value) else value


def _verbatim(value: Any) -> str | None:
    """The client's own clock, kept as it was sent; nothing is ordered by it."""
    return None if value is None else (value if isinstance(value, str) else json.dumps(value))[:64]


def _not_boolean(value: Any) -> Any:
    """Pydantic would read true as 1 degree."""
    return None if isinstance(value, bool) else value


def _nfc_if_text(value: Any) -> Any:
    return value if not isinstance(value, str) or value.isascii() else nfc(value)


Id = Annotated[str, BeforeValidator(_nfc_if_text), StringConstraints(min_length=1, max_length=150)]
OptionalId = Annotated[Id | None, BeforeValidator(_blank_is_absent)]
Verbatim = Annotated[str | None, BeforeValidator(_verbatim)]
Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False), BeforeValidator(_not_boolean)]
Longitude = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False), BeforeValidator(_not_boolean)]


REMOVED = "(removed)"  # replaces a text that was anonymised


class Shape(BaseModel):
    """An object on the wire: snake_case in Python, camelCase in JSON."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that is sent."""
        return self.model_dump(mode="json", by_alias=True)


class Request(Shape):
    """A request of a client. One subclass for each `type`; its docstring is published with the protocol."""

    type: ClassVar[str]
    # Not answered, not even with a refusal, because the guide's client opens a dialog for each error.
    no_reply: ClassVar[bool] = False
    rate_limited: ClassVar[bool] = True
    # One of a person at a time: the others wait, then are refused with RATE_LIMITED.
    long_answer: ClassVar[bool] = False
    # Exempt from rate limits, handled before what waits on the same connection, and accepted with a lone
    # surrogate in a text.
    urgent: ClassVar[bool] = False
    # Not refused for a number that JSON readers don't take (1e400, NaN).
    takes_unbounded_numbers: ClassVar[bool] = False

    request_id: OptionalId = None
    client_message_id: Annotated[
        str | None, StringConstraints(max_length=64), BeforeValidator(_blank_is_absent)
    ] = None
    client_timestamp: Verbatim = Field(default=None, alias="timestamp")

    @classmethod
    def read(cls, frame: dict[str, Any]) -> Self:
        """Validate a frame whose fields stand flat, under `data`, or both. Raises ValidationFailed."""
        try:
            return cls.model_validate(cls.fields_of(frame))
        except ValidationError as invalid:
            raise refusal_of(invalid) from None

    @classmethod
    def fields_of(cls, frame: dict[str, Any]) -> dict[str, Any]:
        """Return the frame's fields in one dictionary; flat wins over `data`, null is absent."""
        nested = frame.get("data")
        fields = dict(nested) if isinstance(nested, dict) else {}
        fields.update((k, v) for k, v in frame.items() if v is not None and k not in ("data", "type"))
        return {k: v for k, v in fields.items() if v is not None}


def refusal_of(invalid: ValidationError) -> errors.ValidationFailed:
    """Return the refusal for the first invalid field, by the client's name of it."""
    first = invalid.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return errors.ValidationFailed(f"{field}: {reason}", field=field, reason=reason)


def missing(field: str) -> errors.ValidationFailed:
    """Return the refusal for a field that is required only together with others."""
    return errors.ValidationFailed(f"{field}: Field required", field=field, reason="Field required")


class Event(Shape):
    """An event for clients. One subclass for each `type`; its docstring is published with the protocol."""

    type: ClassVar[str]
    # The fields of `data` are repeated at the top level: the guide reads both.
    flattened: ClassVar[bool] = False
    # Sent between servers, never to a client.
    internal: ClassVar[bool] = False
    # Rate-limited delivery: the newest event of each author ("latest"), or all of them ("live").
    delivery: ClassVar[Literal["", "latest", "live"]] = ""
    # Rate-limited events of the same author and topic that still wait are dropped.
    revokes: ClassVar[bool] = False
    # Written to a slow reader before all that waits, without its `seq`.
    overtakes: ClassVar[bool] = False

    def fields(self) -> dict[str, Any]:
        """Return the event as the JSON object that a client gets."""
        own = self.as_json()
        twice = own.get("data", {}) if self.flattened else {}
        return {"type": self.type, **twice, **own}

    def frame(self) -> bytes:
        return encode(self.fields())

    def subject(self) -> str:
        """Return the id of the row that the event is about; blank where there is none."""
        return ""

    def topic(self) -> str:
        """Return the id of the room, emergency or call it belongs to."""
        return self.subject()

    def author(self) -> str:
        """Return the userId of the person who caused it."""
        return ""

    def push_category(self) -> str:
        """Return the category of the push to recipients without a connection; blank for no push.

        Only durable events are pushed. The push service learns the category and ids, no more.
        """
        return ""


class Durable(Event):
    """An event that must not be lost: each recipient's mailbox keeps an entry of it.

    The entry holds only the id of the row that is the event's subject; `rebuild` makes the event again from
    that row, for a recipient who was away.
    """

    @classmethod
    def rebuild(cls, subjects: Iterable[str]) -> dict[str, Durable]:
        """Return subject → event from the rows as they are now; a deleted row is left out."""
        raise NotImplementedError(cls.__name__)

    @classmethod
    def rebuild_for(cls, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Durable]:
        """Return userId and subject → event for these recipients, without what one may not see any more."""
        pairs = set(wanted)
        events = cls.rebuild({subject for _, subject in pairs})
        return {pair: events[pair[1]] for pair in pairs if pair[1] in events}

    def subject(self) -> str:
        raise NotImplementedError(type(self).__name__)


def subclasses(kind: type[Shape]) -> list[Any]:
    """Return every subclass that has a `type`, sorted by it."""
    found = {sub for direct in kind.__subclasses__() for sub in (direct, *subclasses(direct))}
    return sorted((sub for sub in found if "type" in vars(sub)), key=lambda sub: sub.type)


def encode(fields: dict[str, Any]) -> bytes:
    """Return the JSON text that goes out."""
    try:
        return orjson.dumps(fields)
    except orjson.JSONEncodeError:  # an integer of more than 64 bits in a free object
        return canonical(fields)


def canonical(fields: dict[str, Any]) -> bytes:
    """Return the JSON text by which fields are digested: without spaces, in the order they have."""
    return json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


# Ids and times


def new_id() -> str:
    """Return a UUID version 7 (RFC 9562 §5.7): unguessable, and ordered by time for dense indexes."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(_ten_random_bytes())
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0b11 << 62) | 0b10 << 62
    return str(uuid.UUID(int=value))


def _ten_random_bytes() -> bytes:
    """Return random bytes, read from the kernel for many ids at once: the call costs more than an id."""
    try:
        return _random_bytes.pop()
    except IndexError:
        drawn = os.urandom(10 * 256)
        _random_bytes.extend(drawn[start : start + 10] for start in range(10, len(drawn), 10))
        return drawn[:10]


_random_bytes: list[bytes] = []


def rfc3339(moment: datetime) -> str:
    """Return the time in UTC with `Z`, as every time is sent."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
