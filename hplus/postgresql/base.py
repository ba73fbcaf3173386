"""Django's PostgreSQL backend with our own pools, and without indexes that nobody searches.

`OPTIONS["pool"]` are a pool's `wait_seconds`, and `most` by the kind of work (`limits`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
from django.db import transaction
from django.db.backends.postgresql import base, schema

from hplus.postgresql.limits import current_kind, limits_of
from hplus.postgresql.pool import Connection, Pool

# One round trip for each connection that is opened. A pooler names another process than the one it uses.
SET_UNLESS_POOLED = """
SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS limits(name, value)
WHERE pg_backend_pid() = %s
"""
SET_IN_TRANSACTION = (
    "SELECT set_config(name, value, true) FROM unnest(%s::text[], %s::text[]) AS limits(name, value)"
)


class SchemaEditor(schema.DatabaseSchemaEditor):
    def _create_like_index_sql(self, model: Any, field: Any) -> None:
        """Create no second index on texts, which only helps to find those that begin with something."""


class LimitedConnection(psycopg.Connection[Any]):
    """A connection that knows which limits each of its transactions has to begin with."""

    limits_to_repeat: dict[str, int]


class DatabaseWrapper(base.DatabaseWrapper):
    SchemaEditorClass = SchemaEditor
    execute_wrappers: list[Any]

    @property
    def pool(self) -> Pool | None:
        """Return the pool of this kind of work, shared by its threads; None where none is asked for."""
        options = self.settings_dict["OPTIONS"].get("pool")
        if not options or self.alias == base.NO_DB_ALIAS:
            return None
        kind = current_kind()
        pools: dict[tuple[str, str], Pool] = self._connection_pools
        return pools.get((self.alias, kind)) or pools.setdefault(
            (self.alias, kind), self._new_pool(kind, options)
        )

    def _new_pool(self, kind: str, options: dict[str, Any]) -> Pool:
        return Pool(partial(self._connect, kind), options["most"][kind], options["wait_seconds"])

    def close_pool(self) -> None:
        """Close the pools of all kinds of work."""
        pools: dict[tuple[str, str], Pool] = self._connection_pools
        for key in [key for key in pools if key[0] == self.alias]:
            pools.pop(key).close()

    def _connect(self, kind: str) -> Connection:
        parameters: dict[str, Any] = self.get_connection_params()
        limits = limits_of(kind)
        opened = LimitedConnection.connect(**parameters, autocommit=True)
        self._configure_connection(opened)
        opened.limits_to_repeat = {} if _set_for_session(opened, limits) else limits
        return opened

    # Behind a pooler

    @property
    def _limits_to_repeat(self) -> dict[str, int]:
        return getattr(self.connection, "limits_to_repeat", {})

    def get_new_connection(self, conn_params: Any) -> Any:
        opened = super().get_new_connection(conn_params)
        self.execute_wrappers = [one for one in self.execute_wrappers if one is not in_limited_transaction]
        if getattr(opened, "limits_to_repeat", {}):
            self.execute_wrappers.insert(0, in_limited_transaction)
        return opened

    def _set_autocommit(self, autocommit: bool) -> None:
        super()._set_autocommit(autocommit)
        if not autocommit and (limits := self._limits_to_repeat):
            with self.wrap_database_errors:
                self.connection.execute(SET_IN_TRANSACTION, _columns(limits))


def in_limited_transaction(
    execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Run a statement that stands alone in a transaction, which begins with the limits."""
    wrapper = context["connection"]
    if wrapper.in_atomic_block or not wrapper.get_autocommit():
        return execute(sql, params, many, context)
    with transaction.atomic(using=wrapper.alias):
        return execute(sql, params, many, context)


def _set_for_session(opened: Connection, limits: dict[str, int]) -> bool:
    """Set the limits of this connection. Returns False behind a pooler, where they would not last."""
    if not limits:
        return True
    found = opened.execute(SET_UNLESS_POOLED, [*_columns(limits), opened.info.backend_pid])
    return bool(found.fetchall())


def _columns(limits: dict[str, int]) -> list[list[str]]:
    return [list(limits), [str(milliseconds) for milliseconds in limits.values()]]
