"""Django's PostgreSQL backend with our own pool (`OPTIONS["pool"]` are its `most` and `wait_seconds`)."""

from __future__ import annotations

from typing import Any

import psycopg
from django.db.backends.postgresql import base

from hplus.postgresql.pool import Connection, Pool


class DatabaseWrapper(base.DatabaseWrapper):
    @property
    def pool(self) -> Pool | None:
        """The pool of this database, shared by all threads; None where none is asked for."""
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
