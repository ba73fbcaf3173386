"""A database connection of its own for the hot statements, driven by the event loop (PostgreSQL).

No thread, no pool and no ORM: a prepared statement flies out with all that waits, its rows come back to a
callback, and its commit is its own. One flight is on its way at a time. The connection is opened again
after a failure; meanwhile, and on SQLite, the ordinary actions do the work.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, Protocol

import psycopg
from django.conf import settings
from django.db import connection
from psycopg import Error, pq

from hplus.realtime.execution.plan_age import PlanAge

logger = logging.getLogger(__name__)
Row = tuple[bytes | None, ...]

REOPEN_SECONDS = 1.0
SESSION: tuple[LiteralString, ...] = (
    "SET plan_cache_mode = force_generic_plan",  # planning anew costs more than the statement
    "SET enable_seqscan = off",
    "SET jit = off",
    "SET statement_timeout = 4000",
    "SET lock_timeout = 3000",
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A prepared statement; `$1` and so on are its parameters, as text."""

    name: str
    sql: str


class Failed(Exception):
    """A flight that did not land. `may_be_done`: whether it may have committed all the same."""

    def __init__(self, reason: str, *, is_late: bool = False, may_be_done: bool = False) -> None:
        super().__init__(reason)
        self.is_late, self.may_be_done = is_late, may_be_done


@dataclass(slots=True)
class Flight:
    """One statement with its parameters, and what becomes of it."""

    statement: Statement
    parameters: Sequence[bytes]
    land: Callable[[list[Row]], None]
    fail: Callable[[Failed], None]


class Source(Protocol):
    """What has something to fly."""

    def next_flight(self) -> Flight | None: ...


class HotConnection:
    """Flies one statement after another, in turns for those who wait."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._prepared: set[str] = set()
        self._opened: psycopg.Connection[Any]
        self._socket = -1
        self._pg: pq.abc.PGconn | None = None  # while it is open
        self.is_open = False
        self._waiting: deque[Source] = deque()
        self._flight: Flight | None = None
        self._ready: Flight | None = None  # next, after a statement that prepares for it
        self._results: list[pq.abc.PGresult] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_scheduled = False
        self._on_ground: asyncio.Future[None] | None = None
        self._plans = PlanAge()
        self._opening: asyncio.Task[None] | None = None
        self._is_closed = False

    # Opening

    def open(self) -> None:
        """Connect in the background, and again whenever the connection breaks."""
        if not self._is_closed and (self._opening is None or self._opening.done()):
            self._opening = self._loop.create_task(self._open())

    async def _open(self) -> None:
        while not self._is_closed:
            try:
                self._opened = await asyncio.to_thread(_connect)
            except Exception as unreachable:
                logger.warning("The hot connection is not there: %s", type(unreachable).__name__)
                await asyncio.sleep(REOPEN_SECONDS)
                continue
            self._pg, self.is_open = self._opened.pgconn, True
            self._prepared.clear()
            self._plans = PlanAge()
            self._socket = self._pg.socket  # libpq forgets it with the connection
            self._loop.add_reader(self._socket, self._on_readable)
            self._schedule()
            return

    async def close(self) -> None:
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        self._break(Failed("the server ends", may_be_done=True))

    async def drained(self) -> None:
        """Wait until nothing flies and nothing waits."""
        while self._flight is not None or self._waiting or self._ready is not None:
            self._on_ground = self._loop.create_future()
            await self._on_ground

    # Flying

    def request(self, source: Source) -> None:
        """The source has something to fly; it is asked for it when its turn comes, in this very iteration
        of the loop at the earliest, so that what arrives together flies together."""
        self._waiting.append(source)
        self._schedule()

    def _schedule(self) -> None:
        has_work = self._ready is not None or bool(self._waiting)
        if has_work and self._flight is None and self._pg is not None and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._take_off)

    def _take_off(self) -> None:
        self._is_scheduled = False
        while self._flight is None and self._pg is not None and (flight := self._next_flight()):
            if self._plans.is_over():
                self._ready = flight
                self._start(_DISCARD_PLANS, lambda pg: pg.send_query(b"DISCARD PLANS"))
            elif flight.statement.name not in self._prepared:
                self._ready = flight
                self._prepare(flight)
            else:
                name, parameters = flight.statement.name.encode(), flight.parameters
                self._start(flight, lambda pg: pg.send_query_prepared(name, parameters))  # noqa: B023

        if self._flight is None and self._on_ground is not None and not self._on_ground.done():
            self._on_ground.set_result(None)

    def _next_flight(self) -> Flight | None:
        ready, self._ready = self._ready, None
        while ready is None and self._waiting:
            ready = self._waiting.popleft().next_flight()
        return ready

    def _prepare(self, flight: Flight) -> None:
        name, sql = flight.statement.name, flight.statement.sql
        preparing = Flight(flight.statement, (), lambda _: self._prepared.add(name), self._fail_ready)
        self._start(preparing, lambda pg: pg.send_prepare(name.encode(), sql.encode()))

    def _fail_ready(self, failed: Failed) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.fail(failed)

    def _start(self, flight: Flight, send: Callable[[pq.abc.PGconn], None]) -> None:
        assert self._pg is not None
        self._flight, self._results = flight, []
        self._timer = self._loop.call_later(settings.ACTION_TIMEOUT_SECONDS, self._on_timeout)
        try:
            send(self._pg)
            self._flush()
        except Error as broken:
            self._break(Failed(type(broken).__name__, may_be_done=True))

    def _flush(self) -> None:
        assert self._pg is not None
        if self._pg.flush():  # the kernel took only a part
            self._loop.add_writer(self._socket, self._on_flushable)

    def _on_flushable(self) -> None:
        self._loop.remove_writer(self._socket)
        try:
            self._flush()
        except Error as broken:
            self._break(Failed(type(broken).__name__, may_be_done=True))

    def _on_readable(self) -> None:
        pg = self._pg
        assert pg is not None
        try:
            pg.consume_input()
            while self._flight is not None and not pg.is_busy():
                if (result := pg.get_result()) is not None:
                    self._results.append(result)
                elif pg.status == pq.ConnStatus.OK:
                    self._land()
                else:
                    self._break(Failed("the connection is gone", may_be_done=True))
        except Error as broken:
            self._break(Failed(type(broken).__name__, may_be_done=True))

    def _land(self) -> None:
        flight, results = self._flight, self._results
        assert flight is not None
        self._flight = None
        if self._timer is not None:
            self._timer.cancel()
        try:
            if failed := _failure_in(results):
                flight.fail(failed)
            else:
                flight.land(_rows_of(results[-1]))
        except Exception as broken:  # whoever waits must be answered, whatever happens
            logger.exception("What came back from %s could not be used", flight.statement.name)
            flight.fail(Failed(type(broken).__name__, may_be_done=True))
        self._take_off()

    def _on_timeout(self) -> None:
        self._break(Failed("no answer in time", is_late=True, may_be_done=True))

    def _break(self, failed: Failed) -> None:
        """Give the connection up; what was on its way may be done or not."""
        pg, self._pg, self.is_open = self._pg, None, False
        flight, self._flight = self._flight, None
        if self._timer is not None:
            self._timer.cancel()
        if pg is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._opened.close()
        if flight is not None:
            flight.fail(failed)
        grounded = Failed(str(failed), is_late=failed.is_late)
        self._fail_ready(grounded)
        while self._waiting:  # a source may ask for more than one flight
            if next_flight := self._waiting.popleft().next_flight():
                next_flight.fail(grounded)
        self.open()


def _nothing(_: object) -> None:
    """Ignore the outcome of making plans: nobody waits for it."""


_DISCARD_PLANS = Flight(Statement("discard_plans", "DISCARD PLANS"), (), _nothing, _nothing)


def _connect() -> psycopg.Connection[Any]:
    """Blocks: for a thread. Raises psycopg.Error."""
    given = connection.get_connection_params()
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} - {"options"}
    opened = psycopg.connect(**{key: given[key] for key in given if key in known}, autocommit=True)
    for command in SESSION:
        opened.execute(command)
    opened.pgconn.nonblocking = 1
    return opened


def _failure_in(results: list[pq.abc.PGresult]) -> Failed | None:
    for result in results:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
            logger.warning("A hot statement failed: SQLSTATE %s", state)
            return Failed(state, is_late=state in ("57014", "55P03"))
    return None


def _rows_of(result: pq.abc.PGresult) -> list[Row]:
    columns, get = range(result.nfields), result.get_value
    return [tuple(get(row, column) for column in columns) for row in range(result.ntuples)]


def texts_of(rows: list[Row]) -> list[list[str]]:
    """Return rows of columns that are never null, as text."""
    return [[value.decode() for value in row if value is not None] for row in rows]
