"""Periodic jobs: what must happen on time although nobody asks, and what may wait until there is time.

Several workers may run; each job claims its rows, so that nothing is done twice. A job that fails is
logged and tried again. Each that must be on time has a thread of its own; those that `may_wait` share one.
One statement asks for all jobs whether they have anything to do: a server without work costs next to nothing.
"""

from __future__ import annotations

import logging
import queue
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

from hplus.postgresql.limits import JOB, working_for
from hplus.realtime.execution import prepared
from hplus.realtime.execution.db_threads import is_connection_failure
from hplus.realtime.job_record import JobRecord, report

logger = logging.getLogger(__name__)
SHORTEST_PAUSE_SECONDS = 0.25
REPORT_SECONDS = 10.0  # how often a worker reports what its jobs have done
LATE_SECONDS = 60.0  # without a success, unless a job has its own limit
LATE_SECONDS_OF_WAITING = 6 * 3600.0
Due = Callable[[datetime], QuerySet[Any]]


@dataclass(eq=False)
class PeriodicJob:
    """A callable that does all that is due and returns how much that was.

    `due` are the rows it would do something about at a time; without any it is not called (PostgreSQL). One
    that `may_wait` never delays one that may not. Without a success for `late_after_seconds` it is late: the
    doctor and `/health/` name it.
    """

    function: Callable[[], int]
    every_seconds: float
    due: Due | None = None
    may_wait: bool = False
    late_after_seconds: float = 0
    due_at: float = field(default=0)
    record: JobRecord = field(init=False)

    def __post_init__(self) -> None:
        usual = LATE_SECONDS_OF_WAITING if self.may_wait else LATE_SECONDS
        self.late_after_seconds = self.late_after_seconds or usual
        self.record = JobRecord(self.function.__name__, self.late_after_seconds)

    @property
    def is_time(self) -> bool:
        return time.monotonic() >= self.due_at

    def run(self) -> None:
        self.record.begin(time.monotonic() - self.due_at if self.due_at else 0.0)
        self._wait_again()
        try:
            self.record.succeed(self.function())
        except Exception as failure:
            self.record.fail(failure)
            logger.exception("Job %s failed and is tried again", self.function.__name__)

    def skip(self) -> None:
        """Note that nothing was due."""
        self._wait_again()
        self.record.nothing_was_due()

    def _wait_again(self) -> None:
        self.due_at = time.monotonic() + self.every_seconds


class Lane:
    """A thread that runs jobs one after another."""

    def __init__(self, jobs: Sequence[PeriodicJob]) -> None:
        self.jobs, self.is_busy = jobs, False
        self._given = queue.SimpleQueue[Sequence[PeriodicJob]]()
        self._thread = threading.Thread(target=self._work, name=f"job-{jobs[0].record.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def give(self, jobs: Sequence[PeriodicJob]) -> None:
        """Run these jobs; the lane is busy until they have ended."""
        self.is_busy = True
        self._given.put(jobs)

    def _work(self) -> None:
        with working_for(JOB):
            while jobs := self._given.get():
                for job in jobs:
                    _run_with_connection(job)
                self.is_busy = False

    def end(self) -> None:
        """End the thread, once the jobs it runs have ended."""
        self._given.put(())

    def join(self, timeout_seconds: float) -> None:
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)


class Worker:
    """Runs the jobs until it is stopped: gives those that are due to their lanes."""

    def __init__(self, jobs: Sequence[PeriodicJob]) -> None:
        self.jobs = jobs
        waiting = [job for job in jobs if job.may_wait]
        on_time = [job for job in jobs if not job.may_wait]
        reporting = PeriodicJob(self._report, REPORT_SECONDS)
        self._lanes = [Lane(lane) for lane in (*([job] for job in (*on_time, reporting)), waiting) if lane]
        self._probe: _Probe | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def _report(self) -> int:
        return report([job.record for job in self.jobs])

    def run(self) -> None:
        """Run the jobs, until `stop`."""
        for lane in self._lanes:
            lane.start()
        while not self._stop.is_set():
            idle = [lane for lane in self._lanes if not lane.is_busy]
            with_work = self._with_work([job for lane in idle for job in lane.jobs if job.is_time])
            for lane in idle:
                if given := [job for job in lane.jobs if job in with_work]:
                    lane.give(given)
            self._stop.wait(self._pause_seconds())

    def _with_work(self, ready: Sequence[PeriodicJob]) -> set[PeriodicJob]:
        """Those of the jobs that have something to do, as far as the database can say."""
        if not any(job.due for job in ready) or not prepared.is_available():
            return set(ready)
        try:
            has_something = self._ask()
        except Exception as failed:
            logger.warning("What is due could not be looked for: %s", type(failed).__name__)
            # A table that somebody has locked concerns its own job only; without a database all wait.
            return {job for job in ready if not job.due or not is_connection_failure(failed)}
        with_work = {job for job in ready if not job.due or has_something[job.due]}
        for job in set(ready) - with_work:
            job.skip()
        return with_work

    def _ask(self) -> dict[Due, bool]:
        self._probe = self._probe or _Probe([job.due for job in self.jobs if job.due])
        return self._probe.ask()

    def _pause_seconds(self) -> float:
        """Return the seconds until the next job, or the next question whether a job has anything to do."""
        now = time.monotonic()
        jobs = [job for lane in self._lanes for job in lane.jobs]
        waits = [job.every_seconds if job.is_time else job.due_at - now for job in jobs]
        return max(SHORTEST_PAUSE_SECONDS, min(waits, default=3600))

    def start(self) -> None:
        """Run the jobs in threads of their own."""
        self._thread = threading.Thread(target=self.run, name="worker", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float = 5) -> None:
        self._stop.set()
        until = time.monotonic() + timeout_seconds
        if self._thread is not None:
            self._thread.join(timeout_seconds)
        for lane in self._lanes:
            lane.end()
        for lane in self._lanes:
            lane.join(max(0, until - time.monotonic()))


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
