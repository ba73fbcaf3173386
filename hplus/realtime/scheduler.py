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
from dataclasses import dataclass, field
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
    """Runs the jobs, one after another, until it is stopped; those with threads of their own beside them."""

    def __init__(self, jobs: Sequence[PeriodicJob]) -> None:
        self.jobs = jobs
        self._beside: dict[int, threading.Thread] = {}  # of jobs with threads of their own, by their place
        self._probe: _Probe | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Run the jobs in this thread, until `stop`."""
        while not self._stop.is_set():
            for place, job in self._due_jobs():
                if job.own_thread:
                    self._run_beside(place, job)
                else:
                    _run_with_connection(job)
            self._stop.wait(self._pause_seconds())

    def _run_beside(self, place: int, job: PeriodicJob) -> None:
        name = f"job-{job.function.__name__}"
        thread = threading.Thread(target=_run_with_connection, args=(job,), name=name, daemon=True)
        self._beside[place] = thread
        thread.start()

    def _is_running(self, place: int) -> bool:
        return place in self._beside and self._beside[place].is_alive()

    def _due_jobs(self) -> list[tuple[int, PeriodicJob]]:
        """Those whose time has come, without those of whom the database says that nothing is due."""
        ready = [(place, job) for place, job in enumerate(self.jobs) if job.is_time]
        ready = [(place, job) for place, job in ready if not self._is_running(place)]
        if not any(job.due for _, job in ready) or not prepared.is_available():
            return ready
        try:
            self._probe = self._probe or _Probe([job.due for job in self.jobs if job.due])
            has_something = self._probe.ask()
        except Exception as unreachable:
            logger.warning("What is due could not be looked for: %s", type(unreachable).__name__)
            return [(place, job) for place, job in ready if not job.due]
        return [(place, job) for place, job in ready if not job.due or has_something[job.due]]

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
        until = time.monotonic() + timeout_seconds
        for thread in (self._thread, *self._beside.values()):
            if thread is not None:
                thread.join(max(0, until - time.monotonic()))


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
