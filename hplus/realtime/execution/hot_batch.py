"""Batches that fly on the hot connection: commands that wait for their outcome, and marks that do not.

A fast path does only what is plainly right, in one statement. What it leaves out, and everything while the
hot connection is away, goes through the ordinary action, which knows all the rules and refusals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Protocol

import orjson
from django.conf import settings

from hplus.realtime.execution.batching import Batch, Outcome
from hplus.realtime.execution.db_threads import database_unavailable
from hplus.realtime.execution.hot_connection import Failed, Flight, HotConnection, Row, Statement

COMMANDS_A_FLIGHT = 128
MARKS_A_FLIGHT = 250
REPEAT_SECONDS = 1.0  # until marks that failed are tried again

OnOutcome = Callable[[Outcome], None]


class FastPath(Protocol):
    """One prepared statement for the plain cases of a batch action."""

    statement: Statement

    def key_of(self, command: Any) -> int:
        """Equal for commands that would wait for each other's locks."""
        ...

    def row_of(self, command: Any) -> dict[str, Any] | None:
        """Return the command as a row of the statement's JSON document, which adds its number `n`.

        None for the ordinary action.
        """
        ...

    def may_be_repeated(self, command: Any) -> bool:
        """Return whether the ordinary action notices that the command has been done already."""
        ...

    def land(self, rows_out: list[dict[str, Any]], rows_in: list[Row]) -> list[Outcome | None]:
        """Publish what was done. Returns the outcomes; None for what the ordinary action has to judge."""
        ...


class HotBatch:
    """The queue in front of a fast path."""

    def __init__(self, hot: HotConnection, fast: FastPath, ordinary: Batch[Any]) -> None:
        self._hot, self._fast, self._ordinary = hot, fast, ordinary
        self._waiting: list[tuple[Any, dict[str, Any], OnOutcome]] = []

    def submit(self, command: Any, on_outcome: OnOutcome) -> None:
        """Call back with a result or an exception, once it is durable or known to be refused."""
        row = self._fast.row_of(command) if self._hot.is_open else None
        if row is None:
            self._go_the_ordinary_way(command, on_outcome)
            return
        self._waiting.append((command, row, on_outcome))
        if len(self._waiting) == 1:
            self._hot.request(self)

    def next_flight(self) -> Flight | None:
        rows, encoded = self._next_rows()
        flying, self._waiting = self._waiting[: len(rows)], self._waiting[len(rows) :]
        if not flying:
            return None
        if self._waiting:
            self._hot.request(self)
        return Flight(
            self._fast.statement,
            (encoded,),
            lambda found: self._land(flying, rows, found),
            lambda failed: self._fail(flying, failed),
        )

    def _next_rows(self) -> tuple[list[dict[str, Any]], bytes]:
        """Return the rows of those that fly next, and their JSON: as many as fit, and at least one."""
        rows: list[dict[str, Any]] = []
        encoded: list[bytes] = []
        left_bytes = settings.FLIGHT_BYTES
        for number, (_, row, _) in enumerate(self._waiting[:COMMANDS_A_FLIGHT]):
            rows.append({"n": number, **row})
            encoded.append(orjson.dumps(rows[-1]))
            left_bytes -= len(encoded[-1])
            if left_bytes <= 0:
                break
        return rows, b"[" + b",".join(encoded) + b"]"

    def _land(self, flying: list[Any], rows: list[dict[str, Any]], found: list[Row]) -> None:
        for (command, _, on_outcome), outcome in zip(flying, self._fast.land(rows, found), strict=True):
            if outcome is None:
                self._go_the_ordinary_way(command, on_outcome)
            else:
                on_outcome(outcome)

    def _fail(self, flying: list[Any], failed: Failed) -> None:
        """Where a flight broke nobody knows whether it was done."""
        refusal = database_unavailable(str(failed)) if failed.may_be_done or failed.is_late else None
        for command, _, on_outcome in flying:
            if refusal is not None and (failed.is_late or not self._fast.may_be_repeated(command)):
                on_outcome(refusal)
            else:
                self._go_the_ordinary_way(command, on_outcome)

    def _go_the_ordinary_way(self, command: Any, on_outcome: OnOutcome) -> None:
        asyncio.get_running_loop().create_task(_submit(self._ordinary, command, on_outcome))


async def _submit(batch: Batch[Any], command: Any, on_outcome: OnOutcome) -> None:
    try:
        outcome = await batch.submit(command)
    except Exception as refused:
        outcome = refused
    on_outcome(outcome)


class FastMarks(Protocol):
    """One prepared statement that writes marks; repeating one changes nothing."""

    statement: Statement

    def row_of(self, mark: Any) -> dict[str, Any]: ...
    def land(self, rows_in: list[Row]) -> None: ...


class MarkBatch:
    """Marks that nobody waits for, written at most every so many seconds, in flights of their own.

    In one transaction with commands two servers could wait for each other. Marks of a flight that failed
    are put back and repeated: none is dropped.
    """

    def __init__(
        self, hot: HotConnection, fast: FastMarks, ordinary: Batch[Any], every_seconds: float
    ) -> None:
        self._hot, self._fast, self._ordinary = hot, fast, ordinary
        self._every_seconds = every_seconds
        self._waiting: dict[Hashable, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, mark: Hashable) -> None:
        self._waiting[mark] = None
        self._fly_in(self._every_seconds)

    def _fly_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._request)

    def _request(self) -> None:
        self._timer = None
        if self._hot.is_open:
            self._hot.request(self)
        else:
            self._go_the_ordinary_way()

    def next_flight(self) -> Flight | None:
        flying = list(self._waiting)[:MARKS_A_FLIGHT]
        if not flying:
            return None
        for mark in flying:
            del self._waiting[mark]
        if self._waiting:
            self._hot.request(self)
        rows = [self._fast.row_of(mark) for mark in flying]
        return Flight(
            self._fast.statement,
            (orjson.dumps(rows),),
            self._fast.land,
            lambda failed: self._put_back(flying),
        )

    def _put_back(self, marks: list[Hashable]) -> None:
        self._waiting = dict.fromkeys([*marks, *self._waiting])
        self._fly_in(REPEAT_SECONDS)

    def _go_the_ordinary_way(self) -> None:
        marks, self._waiting = list(self._waiting), {}
        for mark in marks:
            self._ordinary.add(mark).add_done_callback(partial(self._settle, mark))

    def _settle(self, mark: Hashable, done: asyncio.Future[Any]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._put_back([mark])

    def flush(self) -> None:
        """Write what waits now."""
        if self._timer is not None:
            self._timer.cancel()
            self._request()
