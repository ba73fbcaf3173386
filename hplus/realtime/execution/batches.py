"""All batches of one process: the ordinary ones, and those that fly on the hot connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import connection

from hplus.realtime.execution.batching import COMMANDS_AT_ONCE, Batch
from hplus.realtime.execution.hot_batch import FastMarks, FastPath, HotBatch, MarkBatch
from hplus.realtime.execution.hot_connection import HotConnection


class Batches:
    """One queue for each batch action; without hot connections (SQLite) only the ordinary ones."""

    def __init__(self) -> None:
        self._hot = [HotConnection() for _ in range(settings.HOT_CONNECTIONS)] if _is_hot() else []
        self._ordinary: dict[Callable[..., Any], Batch[Any]] = {}
        self._fast: dict[FastPath, list[HotBatch]] = {}
        self._marks: dict[FastMarks, MarkBatch] = {}

    def open(self) -> None:
        """Connect in the background."""
        for hot in self._hot:
            hot.open()

    async def drained(self) -> None:
        """Write what waits."""
        for marks in self._marks.values():
            marks.flush()
        waiting = [hot.drained() for hot in self._hot] + [
            batch.drained() for batch in self._ordinary.values()
        ]
        await asyncio.gather(*waiting)

    async def close(self) -> None:
        await asyncio.gather(*(hot.close() for hot in self._hot))

    def of(
        self, action: Callable[..., Any], most: int = COMMANDS_AT_ONCE, every_seconds: float = 0
    ) -> Batch[Any]:
        """The queue in front of an action that takes a list."""
        if action not in self._ordinary:
            self._ordinary[action] = Batch(action, most, every_seconds)
        return self._ordinary[action]

    def fast(self, path: FastPath, action: Callable[..., Any], command: Any) -> HotBatch | None:
        """The queue in front of the action's fast path; None where there is no hot connection.

        Commands of one key go through the same connection, so that they never wait for each other's locks.
        """
        if not self._hot:
            return None
        if path not in self._fast:
            self._fast[path] = [HotBatch(hot, path, self.of(action)) for hot in self._hot]
        return self._fast[path][path.key_of(command) % len(self._hot)]

    def marks(
        self, path: FastMarks, action: Callable[..., Any], every_seconds: float
    ) -> MarkBatch | Batch[Any]:
        """The queue of marks that nobody waits for."""
        ordinary = self.of(action, every_seconds=every_seconds)
        if not self._hot:
            return ordinary
        if path not in self._marks:
            self._marks[path] = MarkBatch(self._hot[-1], path, ordinary, every_seconds)
        return self._marks[path]


def _is_hot() -> bool:
    """Whether hot statements have connections of their own; an old pgbouncer can't prepare them."""
    return connection.vendor == "postgresql" and settings.HPLUS_PREPARED_STATEMENTS
