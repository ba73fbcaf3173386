"""The protocol as tables, for people: the page and the Markdown show the same ones."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from hplus.protocol import wire
from hplus.protocol.examples import example
from hplus.protocol.registry import Domain, WireMessage, domains, meaning_of, remarks_of, wire_messages
from hplus.protocol.schemas import PREFIX, Schema, Schemas

# What every request may carry is told once, not in each table.
COMMON_FIELDS = {
    "requestId": "Comes back in the `ack` or `error` that answers this request.",
    "clientMessageId": "Where a request makes something, the same one from the same user makes it "
    "only once, and each retry gets the same answer with `status: duplicate`.",
    "timestamp": "The client's own clock: kept, never trusted.",
}


@dataclass(frozen=True)
class Row:
    """One field. In `type`, the name of a shape stands in braces."""

    name: str
    type: str
    presence: str
    notes: str


@dataclass(frozen=True)
class Variant:
    """One class of a word: what it means, what it carries, how it looks."""

    meaning: str
    rows: list[Row]
    example: str
    remarks: list[str]


@dataclass(frozen=True)
class Entry:
    """A word with all its variants; nearly always one."""

    word: WireMessage
    variants: list[Variant]


@dataclass(frozen=True)
class Section:
    """The words of one domain."""

    domain: Domain
    entries: list[Entry]


@dataclass(frozen=True)
class ShapeEntry:
    """Something that words are made of."""

    name: str
    about: str
    rows: list[Row]
    takes_more: bool


@dataclass(frozen=True)
class Sheet:
    """Everything there is to show."""

    sections: list[Section]
    shapes: list[ShapeEntry]


@cache  # classes do not change while they run
def sheet() -> Sheet:
    return _Writer(wire_messages()).sheet()


class _Writer:
    """Turns schemas into tables; knows which shapes clients send, where null and absent are the same."""

    def __init__(self, spoken: list[WireMessage]) -> None:
        self.schemas = Schemas.of(spoken)
        self.is_of_word = set(self.schemas.names.values())
        asked = {name for kind, name in self.schemas.names.items() if issubclass(kind, wire.Request)}
        self.asked = self.schemas.reach(asked)

    def sheet(self) -> Sheet:
        sections = [
            Section(domain, [self._entry(word) for word in domain.wire_messages]) for domain in domains()
        ]
        shapes = [self._shape(name) for name in self.schemas.shapes if name not in self.is_of_word]
        return Sheet(sections, shapes)

    def _entry(self, word: WireMessage) -> Entry:
        return Entry(word, [self._variant(kind) for kind in word.kinds])

    def _variant(self, kind: type[Any]) -> Variant:
        told = {"type", *(COMMON_FIELDS if issubclass(kind, wire.Request) else ())}
        rows = [row for row in self._rows(self.schemas.names[kind]) if row.name not in told]
        frame = json.dumps(example(kind, self.schemas), indent=2, ensure_ascii=False)
        return Variant(meaning_of(kind), rows, frame, remarks_of(kind))

    def _shape(self, name: str) -> ShapeEntry:
        schema = self.schemas.shapes[name]
        about = " ".join(schema.get("description", "").split())
        takes_more = bool(schema.get("additionalProperties"))
        return ShapeEntry(name, about, self._rows(name), takes_more)

    def _rows(self, name: str) -> list[Row]:
        schema, is_asked = self.schemas.shapes[name], name in self.asked
        required = schema.get("required", [])
        return [
            _row(name, field, name in required, is_asked)
            for name, field in schema.get("properties", {}).items()
        ]


def _row(name: str, schema: Schema, is_required: bool, is_asked: bool) -> Row:
    kind = _type(schema)
    if is_asked and not is_required:
        kind = kind.removesuffix(" or null")
    presence = ("required" if is_asked else "always") if is_required else "optional"
    default = _default(schema) if is_asked else []
    return Row(name, kind, presence, "; ".join([*_notes(schema), *default]))


def _type(schema: Schema) -> str:
    """In words: `text`, `list of {Attached} or null`."""
    if "$ref" in schema:
        return "{" + schema["$ref"].removeprefix(PREFIX) + "}"
    if _choices(schema):
        leaves = [part for part in _parts(schema) if not _choices(part)]
        return " or ".join(_without_twice(_type(leaf) for leaf in leaves))
    if schema.get("type") == "array":
        item = _type(schema.get("items", {}))
        return f"list of ({item})" if " or " in item else f"list of {item}"
    if isinstance(values := schema.get("additionalProperties"), dict):
        return f"object of {_type(values)}"
    if schema.get("format") == "date-time":
        return "time"
    return TYPE_NAMES.get(schema.get("type", ""), "anything")


TYPE_NAMES = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "object": "object",
    "null": "null",
}


def _without_twice(types: Iterable[str]) -> list[str]:
    """Each once, null last; an integer is a number."""
    told = dict.fromkeys(types)
    if "number" in told:
        told.pop("integer", None)
    return sorted(told, key=lambda name: name == "null")


def _notes(schema: Schema) -> list[str]:
    """The limits of a field, and what its class says of it."""
    limits = [limit for part in _parts(schema) for limit in _limits(part)]
    about = [schema["description"]] if "description" in schema else []
    return [*dict.fromkeys(limits), *about]


def _default(schema: Schema) -> list[str]:
    default = schema.get("default")
    return [f"default `{_json(default)}`"] if default not in (None, "") else []


def _parts(schema: Schema) -> list[Schema]:
    """The schema and, where it is a choice, all it may be."""
    return [schema, *(part for choice in _choices(schema) for part in _parts(choice))]


def _choices(schema: Schema) -> list[Schema]:
    return [*schema.get("anyOf", ()), *schema.get("oneOf", ())]


def _limits(schema: Schema) -> Iterable[str]:
    if "const" in schema:
        yield f"always `{_json(schema['const'])}`"
    if "enum" in schema:
        yield "one of " + ", ".join(f"`{_json(choice)}`" for choice in schema["enum"])
    if "pattern" in schema:
        yield f"matches `{schema['pattern']}`"
    yield from _span(schema.get("minLength"), schema.get("maxLength"), " characters")
    yield from _span(schema.get("minItems"), schema.get("maxItems"), " of them")
    yield from _span(schema.get("minimum"), schema.get("maximum"), "")
    if "exclusiveMinimum" in schema:
        yield f"above {schema['exclusiveMinimum']}"
    if "exclusiveMaximum" in schema:
        yield f"below {schema['exclusiveMaximum']}"


def _span(least: float | None, most: float | None, unit: str) -> Iterable[str]:
    if least is not None and most is not None:
        yield f"{least} to {most}{unit}"
    elif most is not None:
        yield f"up to {most}{unit}"
    elif least is not None:
        yield f"at least {least}{unit}"


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
