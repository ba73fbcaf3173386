"""Many ids in a query as one parameter."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson
from django.db import connection
from django.db.models.expressions import RawSQL


def any_of(ids: Collection[str]) -> Any:
    """Return what to give to an `__in` filter instead of these ids.

    Django and psycopg prepare every parameter in Python; PostgreSQL reads hundreds of ids out of one JSON
    document. SQLite, which never has many, gets them one by one.
    """
    if connection.vendor != "postgresql":
        return list(ids)
    return RawSQL("SELECT json_array_elements_text(%s::json)", [orjson.dumps(list(ids)).decode()])
