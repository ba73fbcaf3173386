"""The JSON Schema of every word, as pydantic derives it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from hplus.protocol import wire
from hplus.protocol.registry import WireMessage

Schema = dict[str, Any]
PREFIX = "#/components/schemas/"
# What pydantic writes where a limit stands on a union, and what JSON Schema calls it.
LIMITS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
PLACE_IN_MAILBOX: Schema = {
    "seq": {"type": "integer", "minimum": 1, "description": "rises for each user"},
    "eventId": {"type": "string", "description": "the same for everyone who gets it"},
}


class _Generator(GenerateJsonSchema):
    """What pydantic derives, without the noise."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """A title for each field would only repeat its name."""
        return False

    def normalize_name(self, name: str) -> str:
        """Where two domains have a shape of one name: `chat.Place`, not `chat__messages__Place`."""
        module, _, own = name.rpartition(".messages.")
        return re.sub(r"[^\w.-]", "_", f"{module.rpartition('.')[2]}.{own}" if module else name)

    def field_is_required(self, field: Any, total: bool) -> bool:
        """What HPlus says is complete; only a field that is null by default may be left out."""
        if self.mode == "validation" or field.get("serialization_exclude_if"):
            return super().field_is_required(field, total)
        inner = field["schema"]
        return inner["type"] != "default" or inner.get("default", "") is not None


@dataclass(frozen=True)
class Schemas:
    """`shapes` are all schemas by name; `names` tells which one is that of a class."""

    shapes: dict[str, Schema]
    names: Mapping[type[Any], str]

    @classmethod
    def of(cls, wire_messages: list[WireMessage]) -> Schemas:
        asked = [(kind, _mode(kind)) for word in wire_messages for kind in word.kinds]
        found, definitions = models_json_schema(
            asked, ref_template=PREFIX + "{model}", schema_generator=_Generator
        )
        shapes = _in_json_schema(definitions.get("$defs", {}))
        names = {kind: _name(ref) for (kind, _), ref in found.items()}
        for kind, name in names.items():
            shapes[name] = _spoken(kind, shapes[name])
        return cls(dict(sorted(shapes.items())), names)

    def of_kind(self, kind: type[Any]) -> Schema:
        return self.shapes[self.names[kind]]

    def resolved(self, schema: Schema) -> Schema:
        """The schema itself, where it is only pointed to."""
        return self.shapes[_name(schema)] if "$ref" in schema else schema

    def reach(self, names: set[str]) -> set[str]:
        """These shapes and all they are made of."""
        found: set[str] = set()
        while names:
            found |= names
            names = {ref for name in names for ref in _refs(self.shapes[name])} - found
        return found


def _mode(kind: type[Any]) -> Any:
    return "validation" if issubclass(kind, wire.Request) else "serialization"


def _name(ref: Mapping[str, Any]) -> str:
    return str(ref["$ref"]).removeprefix(PREFIX)


def _spoken(kind: type[Any], schema: Schema) -> Schema:
    """The schema of the whole frame: with its `type`, its place in the mailbox, and `data` twice."""
    added = PLACE_IN_MAILBOX if issubclass(kind, wire.Durable) else {}
    properties = schema.get("properties", {})
    spoken = {
        **schema,
        "properties": {"type": {"type": "string", "const": kind.type}, **properties, **added},
        "required": ["type", *schema.get("required", []), *added],
    }
    return {**spoken, "allOf": [properties["data"]]} if getattr(kind, "flattened", False) else spoken


def _in_json_schema(part: Any) -> Any:
    if isinstance(part, list):
        return [_in_json_schema(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    return {
        LIMITS[key] if key in LIMITS and isinstance(value, int | float) else key: _in_json_schema(value)
        for key, value in part.items()
    }


def _refs(part: Any) -> set[str]:
    """The names of the shapes that this schema points to."""
    if isinstance(part, list):
        return {ref for inner in part for ref in _refs(inner)}
    if not isinstance(part, dict):
        return set()
    own = {_name(part)} if isinstance(part.get("$ref"), str) else set()
    return own | {ref for inner in part.values() for ref in _refs(inner)}
