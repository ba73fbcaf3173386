"""Many rows in one statement, for the hot lanes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

import orjson
from django.db import connection, models

Row = dict[str, Any]  # by attname


def insert(model: Any, rows: Iterable[Row], *, ignore_conflicts: bool = False, replaces: str = "") -> None:
    """All rows, or with `ignore_conflicts` those that violate no constraint.

    `replaces` is the attname of a unique field: a row in the table with the same value there becomes the
    new one. `bulk_create` prepares value by value in Python. PostgreSQL reads a whole batch out of one JSON
    document for a third of the CPU; SQLite, which never has many to write, keeps `bulk_create`.
    """
    rows = list(rows)
    if connection.vendor != "postgresql":
        instances = [model(**row) for row in rows]
        model._default_manager.bulk_create(
            instances, ignore_conflicts=ignore_conflicts, **(_replacing(model, replaces) if replaces else {})
        )
    elif rows:
        with connection.cursor() as cursor:
            cursor.execute(_statement(model, ignore_conflicts, replaces), [_document(rows)])


def _replacing(model: Any, unique: str) -> dict[str, Any]:
    """What `bulk_create` calls it."""
    others = [field.name for field in _fields(model) if field.attname != unique]
    return {"update_conflicts": True, "unique_fields": [unique], "update_fields": others}


def _document(rows: list[Row]) -> str:
    try:
        return orjson.dumps(rows, default=str).decode()
    except orjson.JSONEncodeError:  # an integer of more than 64 bits in a free object
        return json.dumps(rows, default=str)


def row_of(instance: Any) -> Row:
    """Return everything of it that the database does not fill in by itself."""
    return {field.attname: getattr(instance, field.attname) for field in _fields(instance.__class__)}


@cache
def _fields(model: Any) -> list[Any]:
    return [field for field in model._meta.local_concrete_fields if not isinstance(field, models.AutoField)]


@cache
def _statement(model: Any, ignore_conflicts: bool, replaces: str) -> str:
    quoted, fields = connection.ops.quote_name, _fields(model)
    columns = ", ".join(quoted(field.column) for field in fields)
    # The document has the names of the model, the table those of its columns.
    names = ", ".join(quoted(field.attname) for field in fields)
    typed = ", ".join(f"{quoted(field.attname)} {field.db_type(connection)}" for field in fields)
    conflict = "ON CONFLICT DO NOTHING" if ignore_conflicts else ""
    if replaces:
        others = [quoted(field.column) for field in fields if field.attname != replaces]
        unique = quoted(next(field.column for field in fields if field.attname == replaces))
        changes = ", ".join(f"{column} = EXCLUDED.{column}" for column in others)
        conflict = f"ON CONFLICT ({unique}) DO UPDATE SET {changes}"
    return (
        f"INSERT INTO {quoted(model._meta.db_table)} ({columns}) "
        f"SELECT {names} FROM json_to_recordset(%s::json) AS batch({typed}) {conflict}"
    )
