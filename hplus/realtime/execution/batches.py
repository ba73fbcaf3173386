"""All batches of one process: the ordinary ones, and those that fly on the hot connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from django.conf import settings
from django.db import connection

from hplus.realtime.execution.batching import Batch
from hplus.realtime.execution.delayed import Delayed, OnOutcome, settle
from hplus.realtime.execution.hot_batch import FastMarks, FastPath, HotBatch, MarkBatch
from hplus.realtime.execution.hot_connection import HotConnection


class Batches:
    """One queue for each batch action; without hot connections (SQLite) only the ordinary ones."""

    def __init__(self) -> None:
        self._hot = [HotConnection() for _ in range(settings.HOT_CONNECTIONS)] if _is_hot() else []
        self._ordinary: dict[Callable[..., Any], Batch[Any]] = {}
        self._fast: dict[FastPath, HotBatch] = {}
        self._marks: dict[FastMarks, MarkBatch] = {}
        self._delayed: dict[FastPath, Delayed[Any]] = {}

    def open(self) -> None:
        """Connect in the background."""
        for hot in self._hot:
            hot.open()

    async def drained(self) -> None:
        """Write what waits; what a fast path leaves out is written by the ordinary action."""
        for delayed in self._delayed.values():
            delayed.hurry()
        for marks in self._marks.values():
            marks.flush()
        await asyncio.gather(*(hot.drained() for hot in self._hot))
        await asyncio.gather(*(batch.drained() for batch in self._ordinary.values()))

    async def close(self) -> None:
        await asyncio.gather(*(hot.close() for hot in self._hot))

    def of(self, action: Callable[..., Any], every_seconds: float = 0) -> Batch[Any]:
        """Return the queue in front of an action that takes a list."""
        if action not in self._ordinary:
            self._ordinary[action] = Batch(action, every_seconds)
        return self._ordinary[action]

    def fast(self, path: FastPath, action: Callable[..., Any]) -> HotBatch | None:
        """Return the queue in front of the action's fast path; None where there is no hot connection."""
        if not self._hot:
            return None
        if path not in self._fast:
            self._fast[path] = HotBatch(self._hot, path, self.of(action))
        return self._fast[path]

    def delayed(self, path: FastPath, action: Callable[..., Any], every_seconds: float) -> Delayed[Any]:
        """Return the queue of commands that wait for others, before the action's fast path and the action."""
        if path not in self._delayed:
            self._delayed[path] = Delayed(partial(self._submit, path, action), every_seconds)
        return self._delayed[path]

    def _submit(
        self, path: FastPath, action: Callable[..., Any], command: Any, on_outcome: OnOutcome
    ) -> None:
        if hot := self.fast(path, action):
            hot.submit(command, on_outcome)
        else:
            self.of(action).add(command).add_done_callback(partial(settle, on_outcome))

    def marks(
        self, path: FastMarks, action: Callable[..., Any], every_seconds: float
    ) -> MarkBatch | Batch[Any]:
        """Return the queue of marks that nobody waits for."""
        ordinary = self.of(action, every_seconds=every_seconds)
        if not self._hot:
            return ordinary
        if path not in self._marks:
            self._marks[path] = MarkBatch(self._hot[-1], path, ordinary, every_seconds)
        return self._marks[path]


def _is_hot() -> bool:
    """Whether hot statements have connections of their own; an old pgbouncer can't prepare them."""
    return connection.vendor == "postgresql" and settings.HPLUS_PREPARED_STATEMENTS
