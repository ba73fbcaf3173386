"""Periodic jobs: what must happen on time although nobody asks.

Several workers may run; each job claims its rows, so that nothing is done twice. A job that fails is
logged and tried again; it never stops the others. One statement asks for all jobs whether they have anything
to do, so that a server without work costs next to nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg.sql
from django.db import close_old_connections, reset_queries
from django.db.models import QuerySet
from django.utils import timezone

from hplus.realtime.execution import prepared

logger = logging.getLogger(__name__)
SHORTEST_PAUSE_SECONDS = 0.25
Due = Callable[[datetime], QuerySet[Any]]


@dataclass
class PeriodicJob:
    """A callable that does all that is due and returns how much that was.

    `due` are the rows it would do something about at a time; without any it is not called (PostgreSQL). One
    that waits for others (a push service) has its `own_thread`, so that an escalation does not wait.
    """

    function: Callable[[], int]
    every_seconds: float
    due: Due | None = None
    own_thread: bool = False
    due_at: float = field(default=0, compare=False)

    @property
    def is_time(self) -> bool:
        return time.monotonic() >= self.due_at

    def run(self) -> None:
        self.due_at = time.monotonic() + self.every_seconds
        try:
            self.function()
        except Exception:
            logger.exception("Job %s failed and is tried again", self.function.__name__)


class Worker:
    """Runs the jobs, one after another, until it is stopped."""

    def __init__(self, jobs: Sequence[PeriodicJob]) -> None:
        self.jobs = [job for job in jobs if not job.own_thread]
        self._others = [Worker([replace(job, own_thread=False)]) for job in jobs if job.own_thread]
        self._probe: _Probe | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Run the jobs in this thread, until `stop`."""
        for other in self._others:
            other.start()
        while not self._stop.is_set():
            for job in self._due_jobs():
                _run_with_connection(job)
            self._stop.wait(self._pause_seconds())

    def _due_jobs(self) -> list[PeriodicJob]:
        """Those whose time has come, without those of whom the database says that nothing is due."""
        ready = [job for job in self.jobs if job.is_time]
        if not any(job.due for job in ready) or not prepared.is_available():
            return ready
        try:
            self._probe = self._probe or _Probe([job.due for job in self.jobs if job.due])
            has_something = self._probe.ask()
        except Exception as unreachable:
            logger.warning("What is due could not be looked for: %s", type(unreachable).__name__)
            return [job for job in ready if not job.due]
        return [job for job in ready if not job.due or has_something[job.due]]

    def _pause_seconds(self) -> float:
        """Return the seconds until the next job, or the next question whether a job has anything to do."""
        now = time.monotonic()
        waits = [job.every_seconds if job.is_time else job.due_at - now for job in self.jobs]
        return max(SHORTEST_PAUSE_SECONDS, min(waits, default=3600))

    def start(self) -> None:
        """Run the jobs in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="worker", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float = 5) -> None:
        self._stop.set()
        for other in self._others:
            other.stop(timeout_seconds)
        if self._thread is not None:
            self._thread.join(timeout_seconds)


def _run_with_connection(job: PeriodicJob) -> None:
    close_old_connections()
    reset_queries()
    try:
        job.run()
    finally:
        close_old_connections()


class _Probe:
    """One prepared statement that asks for each of these rows whether there are any."""

    SOME_TIME = datetime(2000, 1, 1, tzinfo=UTC)  # stands for now while the statement is made

    def __init__(self, dues: Sequence[Due]) -> None:
        self._dues, self._offsets = dues, list[timedelta]()
        self._statement = f"SELECT {', '.join(f'EXISTS ({self._sql_of(due)})' for due in dues)}"

    def _sql_of(self, due: Due) -> str:
        """The query with times as parameters and all else written out: else no partial index would fit."""
        sql, values = due(self.SOME_TIME).order_by().values("pk").query.sql_with_params()
        return sql % tuple(self._written(value) for value in values)

    def _written(self, value: object) -> str:
        if isinstance(value, datetime):
            self._offsets.append(value - self.SOME_TIME)
            return "%s"
        plain = str(value) if isinstance(value, str) else value  # of a choice its value, not its name
        return psycopg.sql.Literal(plain).as_string().replace("%", "%%")

    def ask(self) -> dict[Due, bool]:
        now = timezone.now()
        [found] = prepared.statements.fetch(self._statement, *(now + offset for offset in self._offsets))
        return dict(zip(self._dues, found, strict=True))
