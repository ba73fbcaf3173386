"""Prepared statements for threads, on database connections of their own (PostgreSQL).

Django writes the values into the text of a statement, so the database plans it anew each time: a millisecond
or two for one with many clauses. Here it is planned once, and neither a pool nor a health check costs a
round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection
from psycopg.conninfo import make_conninfo

from hplus.realtime.execution.plan_age import PlanAge

Row = tuple[Any, ...]
Statement = tuple[str, Sequence[object]]  # the text, and the values of its parameters

SESSION = (
    "-c plan_cache_mode=force_generic_plan"  # planning anew costs more than most of the statements
    " -c enable_seqscan=off -c jit=off"
    " -c statement_timeout=4000 -c lock_timeout=3000 -c idle_in_transaction_session_timeout=5000"
    " -c timezone=UTC"
)


def is_available() -> bool:
    """Whether statements are prepared here; on SQLite and behind an old pgbouncer the actions do the work."""
    return connection.vendor == "postgresql" and bool(settings.HPLUS_PREPARED_STATEMENTS)


class PreparedStatements:
    """Runs prepared statements from any thread; as many connections are open as threads ask at once.

    A statement whose connection breaks is repeated once, so each must be one that may be repeated.
    """

    def __init__(self) -> None:
        self._free: list[_Opened] = []

    def fetch(self, sql: str, *parameters: object) -> list[Row]:
        """Run one statement in a transaction of its own. Returns its rows. Raises django.db.Error."""
        [rows] = self.fetch_each((sql, parameters))
        return rows

    def fetch_each(self, *statements: Statement) -> list[list[Row]]:
        """Run these in one transaction and one round trip; each sees what was committed before it began."""
        with connection.wrap_database_errors:
            opened = self._borrow()
            try:
                found = opened.run(statements)
            except psycopg.Error as failed:
                if not opened.is_broken_by(failed):
                    self._free.append(opened)
                    raise
                opened.close()
                self.close()  # the database was restarted, so the others are broken as well
                opened = _Opened()
                found = opened.run(statements)
            self._free.append(opened)
            return found

    def _borrow(self) -> _Opened:
        try:
            return self._free.pop()
        except IndexError:
            return _Opened()

    def close(self) -> None:
        """Close the connections that nobody uses this moment."""
        while self._free:
            self._borrow().close()


class _Opened:
    """One database connection."""

    def __init__(self) -> None:
        self._connection = psycopg.connect(_conninfo(), autocommit=True, prepare_threshold=0)
        self._plans = PlanAge()

    def run(self, statements: Sequence[Statement]) -> list[list[Row]]:
        if self._plans.is_over():
            self._connection.execute("DISCARD PLANS", prepare=False)
        if len(statements) == 1:
            return [_rows_of(self._connection.execute(*statements[0]))]
        with self._connection.pipeline():  # without a BEGIN all of it is one transaction
            cursors = [self._connection.execute(*statement) for statement in statements]
        return [_rows_of(cursor) for cursor in cursors]

    def is_broken_by(self, failure: psycopg.Error) -> bool:
        """Return whether the connection failed; one that is ended (SQLSTATE 57P) may still seem open."""
        return self._connection.closed or (failure.sqlstate or "").startswith("57P")

    def close(self) -> None:
        self._connection.close()


def _rows_of(cursor: psycopg.Cursor[Row]) -> list[Row]:
    return cursor.fetchall() if cursor.description else []


def _conninfo() -> str:
    """Return how Django connects, for a session of our own."""
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    given = connection.get_connection_params()
    return make_conninfo(
        **{key: value for key, value in given.items() if key in known} | {"options": SESSION}
    )


statements = PreparedStatements()
