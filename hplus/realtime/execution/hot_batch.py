"""Batches that fly on the hot connection: commands that wait for their outcome, and marks that do not.

A fast path does only what is plainly right, in one statement. What it leaves out, and everything while the
hot connection is away, goes through the ordinary action, which knows all the rules and refusals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Protocol

import orjson
from django.conf import settings

from hplus.realtime.execution.batching import Batch, Outcome
from hplus.realtime.execution.db_threads import database_unavailable
from hplus.realtime.execution.hot_connection import Failed, Flight, HotConnection, Row, Statement

COMMANDS_A_FLIGHT = 128
BACKLOG = 16  # commands that wait while another flight is on its way, from which on all connections fly
MARKS_A_FLIGHT = 250
REPEAT_SECONDS = 1.0  # until marks that failed are tried again

OnOutcome = Callable[[Outcome], None]
Entry = tuple[Any, dict[str, Any], OnOutcome]  # a command, its row, and whom to call


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
    """The queue in front of a fast path: one lane while there is little to do, else one a connection.

    One connection alone is the cheaper one: its backend stays warm, and more flies together. With a backlog
    the lanes fly side by side, each with its own keys.
    """

    def __init__(self, hot: Sequence[HotConnection], fast: FastPath, ordinary: Batch[Any]) -> None:
        self._fast, self._ordinary = fast, ordinary
        self._lanes = [_Lane(connection, self) for connection in hot]
        self._has_backlog = False

    def submit(self, command: Any, on_outcome: OnOutcome) -> None:
        """Call back with a result or an exception, once it is durable or known to be refused."""
        lane = self._lane_of(command) if self._has_backlog else self._lanes[0]
        row = self._fast.row_of(command) if lane.hot.is_open else None
        if row is None:
            self._go_the_ordinary_way(command, on_outcome)
        else:
            lane.add((command, row, on_outcome))

    def _lane_of(self, command: Any) -> _Lane:
        return self._lanes[self._fast.key_of(command) % len(self._lanes)]

    def spread(self) -> None:
        """Spread a backlog of the first lane over all lanes by the keys, while nothing is on its way."""
        waiting = self._lanes[0].waiting
        if self._has_backlog or len(waiting) < BACKLOG or len(self._lanes) == 1:
            return
        self._has_backlog, self._lanes[0].waiting = True, []
        for entry in waiting:
            self._lane_of(entry[0]).add(entry)

    def _gather(self) -> None:
        """Go back to one lane as soon as nothing waits and nothing is on its way."""
        if self._has_backlog and not any(lane.waiting or lane.is_flying for lane in self._lanes):
            self._has_backlog = False

    def flight_of(
        self, lane: _Lane, flying: list[Entry], rows: list[dict[str, Any]], encoded: bytes
    ) -> Flight:
        return Flight(
            self._fast.statement,
            (encoded,),
            lambda found: self._land(lane, flying, rows, found),
            lambda failed: self._fail(lane, flying, failed),
        )

    def _land(self, lane: _Lane, flying: list[Entry], rows: list[dict[str, Any]], found: list[Row]) -> None:
        lane.is_flying = False
        self._gather()
        for (command, _, on_outcome), outcome in zip(flying, self._fast.land(rows, found), strict=True):
            if outcome is None:
                self._go_the_ordinary_way(command, on_outcome)
            else:
                on_outcome(outcome)

    def _fail(self, lane: _Lane, flying: list[Entry], failed: Failed) -> None:
        """Where a flight broke nobody knows whether it was done."""
        lane.is_flying = False
        self._gather()
        refusal = database_unavailable(str(failed)) if failed.may_be_done or failed.is_late else None
        for command, _, on_outcome in flying:
            if refusal is not None and (failed.is_late or not self._fast.may_be_repeated(command)):
                on_outcome(refusal)
            else:
                self._go_the_ordinary_way(command, on_outcome)

    def _go_the_ordinary_way(self, command: Any, on_outcome: OnOutcome) -> None:
        asyncio.get_running_loop().create_task(_submit(self._ordinary, command, on_outcome))


class _Lane:
    """What waits for one hot connection; what comes in a lane is done in its order."""

    def __init__(self, hot: HotConnection, batch: HotBatch) -> None:
        self.hot, self._batch = hot, batch
        self.waiting: list[Entry] = []
        self.is_flying = False

    def add(self, entry: Entry) -> None:
        self.waiting.append(entry)
        if len(self.waiting) == 1:
            self.hot.request(self)

    def next_flight(self) -> Flight | None:
        self._batch.spread()
        rows, encoded = _next_rows(self.waiting)
        flying, self.waiting = self.waiting[: len(rows)], self.waiting[len(rows) :]
        if not flying:
            return None
        if self.waiting:
            self.hot.request(self)
        self.is_flying = True
        return self._batch.flight_of(self, flying, rows, encoded)


def _next_rows(waiting: Sequence[Entry]) -> tuple[list[dict[str, Any]], bytes]:
    """Return the rows of those that fly next, and their JSON: as many as fit, and at least one."""
    rows: list[dict[str, Any]] = []
    encoded: list[bytes] = []
    left_bytes = settings.FLIGHT_BYTES
    for number, (_, row, _) in enumerate(waiting[:COMMANDS_A_FLIGHT]):
        rows.append({"n": number, **row})
        encoded.append(orjson.dumps(rows[-1]))
        left_bytes -= len(encoded[-1])
        if left_bytes <= 0:
            break
    return rows, b"[" + b",".join(encoded) + b"]"


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
