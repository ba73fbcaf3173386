"""The JSON Schema of every message, as pydantic derives it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from hplus.protocol import wire
from hplus.protocol.registry import MessageClass, PublishedMessage

Schema = dict[str, Any]
PREFIX = "#/components/schemas/"
# Pydantic's names of limits on a union, and those of JSON Schema.
LIMITS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
PLACE_IN_MAILBOX: Schema = {
    "seq": {"type": "integer", "minimum": 1, "description": "the place in the user's mailbox, without gaps"},
    "eventId": {"type": "string", "description": "the same for every recipient"},
}


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, with the few changes that readers need."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """A title for each field would only repeat its name."""
        return False

    def normalize_name(self, name: str) -> str:
        """Shapes of one name in two domains become `chat.Place`, not `chat__messages__Place`."""
        module, _, own = name.rpartition(".messages.")
        return re.sub(r"[^\w.-]", "_", f"{module.rpartition('.')[2]}.{own}" if module else name)

    def field_is_required(self, field: Any, total: bool) -> bool:
        """HPlus sends all fields; only one that is null by default may be left out."""
        if self.mode == "validation" or field.get("serialization_exclude_if"):
            return super().field_is_required(field, total)
        inner = field["schema"]
        return inner["type"] != "default" or inner.get("default", "") is not None


@dataclass(frozen=True)
class Schemas:
    """`shapes` are all schemas by name; `names` maps each message class to the name of its schema."""

    shapes: dict[str, Schema]
    names: Mapping[MessageClass, str]

    @classmethod
    def of(cls, published: list[PublishedMessage]) -> Schemas:
        wanted = [(kind, _mode(kind)) for message in published for kind in message.classes]
        found, definitions = models_json_schema(
            wanted, ref_template=PREFIX + "{model}", schema_generator=_Generator
        )
        shapes = _in_json_schema(definitions.get("$defs", {}))
        names = {kind: _name(ref) for (kind, _), ref in found.items()}
        for kind, name in names.items():
            shapes[name] = _frame_schema(kind, shapes[name])
        return cls(dict(sorted(shapes.items())), names)

    def of_class(self, kind: MessageClass) -> Schema:
        return self.shapes[self.names[kind]]

    def resolved(self, schema: Schema) -> Schema:
        """Return the schema that a reference points to; any other as it is."""
        return self.shapes[_name(schema)] if "$ref" in schema else schema

    def reach(self, names: set[str]) -> set[str]:
        """Return these names and those of all shapes they refer to."""
        found: set[str] = set()
        while names:
            found |= names
            names = {ref for name in names for ref in _refs(self.shapes[name])} - found
        return found


def _mode(kind: MessageClass) -> Any:
    return "validation" if issubclass(kind, wire.Request) else "serialization"


def _name(ref: Mapping[str, Any]) -> str:
    return str(ref["$ref"]).removeprefix(PREFIX)


def _frame_schema(kind: MessageClass, schema: Schema) -> Schema:
    """Return the schema of the whole frame: with `type`, `seq` and `eventId`, and `data` flattened."""
    added = PLACE_IN_MAILBOX if issubclass(kind, wire.Durable) else {}
    properties = schema.get("properties", {})
    frame = {
        **schema,
        "properties": {"type": {"type": "string", "const": kind.type}, **properties, **added},
        "required": ["type", *schema.get("required", []), *added],
    }
    return {**frame, "allOf": [properties["data"]]} if getattr(kind, "flattened", False) else frame


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
    """Return the names of the shapes that this schema refers to."""
    if isinstance(part, list):
        return {ref for inner in part for ref in _refs(inner)}
    if not isinstance(part, dict):
        return set()
    own = {_name(part)} if isinstance(part.get("$ref"), str) else set()
    return own | {ref for inner in part.values() for ref in _refs(inner)}
