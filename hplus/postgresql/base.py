"""Django's PostgreSQL backend with our own pool, and without indexes that nobody searches.

`OPTIONS["pool"]` are the pool's `most` and `wait_seconds`.
"""

from __future__ import annotations

from typing import Any

import psycopg
from django.db.backends.postgresql import base, schema

from hplus.postgresql.pool import Connection, Pool


class SchemaEditor(schema.DatabaseSchemaEditor):
    def _create_like_index_sql(self, model: Any, field: Any) -> None:
        """Create no second index on texts, which only helps to find those that begin with something."""


class DatabaseWrapper(base.DatabaseWrapper):
    SchemaEditorClass = SchemaEditor

    @property
    def pool(self) -> Pool | None:
        """Return the pool of this database, shared by all threads; None where none is asked for."""
        options = self.settings_dict["OPTIONS"].get("pool")
        if not options or self.alias == base.NO_DB_ALIAS:
            return None
        pools: dict[str, Pool] = self._connection_pools
        return pools.get(self.alias) or pools.setdefault(self.alias, Pool(self._connect, **options))

    def _connect(self) -> Connection:
        parameters: dict[str, Any] = self.get_connection_params()
        opened = psycopg.connect(**parameters, autocommit=True)
        self._configure_connection(opened)
        return opened
