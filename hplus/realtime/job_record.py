"""What periodic jobs have done: collected in a worker, and reported to the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.utils import timezone

from hplus.realtime.models import JobState


@dataclass
class JobRecord:
    """What one worker knows of one job since it reported last. Its methods are called by several threads."""

    name: str
    late_after_seconds: float
    running_since: datetime | None = None
    succeeded_at: datetime | None = None
    failed_at: datetime | None = None
    error: str = ""
    run_seconds: float = 0  # of the run that ended last
    delay_seconds: float = 0  # from the time of that run until it began
    rows: int = 0
    runs: int = 0
    failures: int = 0
    _began: float = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def begin(self, delay_seconds: float) -> None:
        with self._lock:
            self.running_since, self._began = timezone.now(), time.monotonic()
            self.delay_seconds = delay_seconds

    def succeed(self, rows: int) -> None:
        with self._lock:
            self._end()
            self.succeeded_at = timezone.now()
            self.rows += rows

    def fail(self, failure: Exception) -> None:
        with self._lock:
            self._end()
            self.failed_at, self.error = timezone.now(), type(failure).__name__
            self.failures += 1

    def nothing_was_due(self) -> None:
        with self._lock:
            self.succeeded_at = timezone.now()

    def _end(self) -> None:
        self.running_since, self.run_seconds = None, time.monotonic() - self._began
        self.runs += 1

    @property
    def values(self) -> tuple[object, ...]:
        """Return what `JobState.objects.add` takes, in its order."""
        times = (self.running_since, self.succeeded_at, self.failed_at)
        seconds = (self.run_seconds, self.delay_seconds)
        return (
            self.name,
            self.late_after_seconds,
            *times,
            self.error,
            *seconds,
            self.rows,
            self.runs,
            self.failures,
        )

    def take(self) -> JobRecord:
        """Return what has happened since the last call."""
        with self._lock:
            taken = replace(self)
            self.succeeded_at = self.failed_at = None
            self.rows = self.runs = self.failures = 0
            return taken

    def take_back(self, taken: JobRecord) -> None:
        """Keep for the next report what could not be reported."""
        with self._lock:
            self.succeeded_at = self.succeeded_at or taken.succeeded_at
            self.failed_at = self.failed_at or taken.failed_at
            self.rows += taken.rows
            self.runs += taken.runs
            self.failures += taken.failures


def report(records: Sequence[JobRecord]) -> int:
    """Add what has happened to the rows of these jobs, and delete those of jobs that are no more."""
    taken = [record.take() for record in records]
    try:
        JobState.objects.exclude(name__in=[record.name for record in records]).delete()
        return JobState.objects.add(taken)
    except Exception:
        for record, figures in zip(records, taken, strict=True):
            record.take_back(figures)
        raise
