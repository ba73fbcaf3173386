"""A pool of database connections that gives living ones only, and opens one when somebody needs it.

psycopg's own pool pauses a second, then two, after each broken connection it comes across, and opens others
in the background with pauses of up to minutes: after a restart of the database it refuses those who ask
first, after a longer absence it goes on refusing.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import psycopg
from psycopg import pq

Connection = psycopg.Connection[Any]
LIFETIME_SECONDS = 3600.0  # a process of PostgreSQL grows with what it has done


class Pool:
    """Gives the connection that came back last. At most `most` are in use; then one waits `wait_seconds`."""

    def __init__(self, connect: Callable[[], Connection], most: int, wait_seconds: float) -> None:
        self._connect, self._wait_seconds = connect, wait_seconds
        self._places = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._free: deque[Connection] = deque()
        self._expires_at: dict[Connection, float] = {}  # of all, in use or not
        self._is_closed = False

    def open(self) -> None:
        """Do nothing: no connection is opened in advance."""

    def getconn(self) -> Connection:
        """Return a connection that lives.

        Raises psycopg.Error where none can be opened, and OperationalError where all stay in use.
        """
        if not self._places.acquire(timeout=self._wait_seconds):
            raise psycopg.OperationalError("All database connections are in use.")
        try:
            given = self._living() or self._opened()
        except BaseException:
            self._places.release()
            raise
        cast(Any, given)._pool = self  # where Django returns it to
        return given

    def _living(self) -> Connection | None:
        while (candidate := self._take()) is not None:
            if is_alive(candidate):
                return candidate
            self._discard(candidate)
        return None

    def _take(self) -> Connection | None:
        with self._lock:
            return self._free.pop() if self._free else None

    def _opened(self) -> Connection:
        opened = self._connect()
        self._expires_at[opened] = time.monotonic() + LIFETIME_SECONDS
        return opened

    def putconn(self, returned: Connection) -> None:
        """Take a connection back. One in the middle of something is closed."""
        if (unneeded := self._kept(returned)) is not None:
            self._discard(unneeded)
        self._places.release()

    def _kept(self, returned: Connection) -> Connection | None:
        """Keep it, if it can be used again. Returns the one to close instead, if any."""
        is_idle = returned.pgconn.transaction_status == pq.TransactionStatus.IDLE
        with self._lock:
            if not is_idle or self._is_closed:
                return returned
            self._free.append(returned)
            return self._free.popleft() if self._is_old(self._free[0]) else None

    def _is_old(self, connection: Connection) -> bool:
        return time.monotonic() > self._expires_at[connection]

    def _discard(self, connection: Connection) -> None:
        self._expires_at.pop(connection, None)
        connection._pool = None
        connection.close()

    def close(self) -> None:
        """Close what nobody uses; what is in use is closed when it comes back."""
        self._is_closed = True
        while (connection := self._take()) is not None:
            self._discard(connection)


def is_alive(connection: Connection) -> bool:
    """Return whether the database has not closed this idle connection, without asking it."""
    pg = connection.pgconn
    try:
        readable = select.poll()
        readable.register(pg.socket, select.POLLIN)
        while readable.poll(0):  # a notice, or the end
            pg.consume_input()
    except psycopg.Error:
        return False
    return pg.status == pq.ConnStatus.OK
