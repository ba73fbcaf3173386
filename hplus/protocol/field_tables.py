"""The fields of a message or shape as a table, from its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from hplus.protocol import wire
from hplus.protocol.blocks import Table, link
from hplus.protocol.schemas import PREFIX, Schema, Schemas

HEADINGS = ("Field", "Type", "Presence", "Notes")
TYPE_NAMES = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "object": "object",
    "null": "null",
}


class FieldTables:
    """Makes the tables; in what clients send null and absent are the same, and a default may be left out."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        requests = {name for kind, name in schemas.names.items() if issubclass(kind, wire.Request)}
        self._sent_by_clients = schemas.reach(requests)

    def table(self, name: str, omitted: Collection[str] = ()) -> Table:
        """Return the table of the fields of this schema, without those omitted."""
        schema, by_client = self._schemas.shapes[name], name in self._sent_by_clients
        required = schema.get("required", [])
        rows = [
            _row(field, part, field in required, by_client)
            for field, part in schema.get("properties", {}).items()
            if field not in omitted
        ]
        return Table(HEADINGS, rows, marked_column=2)


def _row(name: str, schema: Schema, is_required: bool, by_client: bool) -> tuple[str, str, str, str]:
    kind = _type(schema)
    if by_client and not is_required:
        kind = kind.removesuffix(" or null")
    presence = ("required" if by_client else "always") if is_required else "optional"
    default = _default(schema) if by_client else []
    return f"`{name}`", kind, presence, "; ".join([*_notes(schema), *default])


def _type(schema: Schema) -> str:
    """Return the type in words, with links to shapes: `list of [Attached](#attached) or null`."""
    if "$ref" in schema:
        return link(schema["$ref"].removeprefix(PREFIX))
    if _choices(schema):
        leaves = [part for part in _parts(schema) if not _choices(part)]
        return " or ".join(_without_duplicates(_type(leaf) for leaf in leaves))
    if schema.get("type") == "array":
        item = _type(schema.get("items", {}))
        return f"list of ({item})" if " or " in item else f"list of {item}"
    if isinstance(values := schema.get("additionalProperties"), dict):
        return f"object of {_type(values)}"
    if schema.get("format") == "date-time":
        return "time"
    return TYPE_NAMES.get(schema.get("type", ""), "anything")


def _without_duplicates(types: Iterable[str]) -> list[str]:
    """Each once, null last; an integer is a number."""
    found = dict.fromkeys(types)
    if "number" in found:
        found.pop("integer", None)
    return sorted(found, key=lambda name: name == "null")


def _notes(schema: Schema) -> list[str]:
    """The limits of a field, and the description its class gives."""
    limits = [limit for part in _parts(schema) for limit in _limits(part)]
    description = [schema["description"]] if "description" in schema else []
    return [*dict.fromkeys(limits), *description]


def _default(schema: Schema) -> list[str]:
    default = schema.get("default")
    return [f"default `{_json(default)}`"] if default not in (None, "") else []


def _parts(schema: Schema) -> list[Schema]:
    """The schema and, where it is a choice, all its alternatives."""
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
