"""Periodic jobs, and the worker that runs them.

Several workers may run; each job claims its rows, so that nothing is done twice. A job that fails is
logged and tried again; it never stops the others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from django.db import close_old_connections, reset_queries

logger = logging.getLogger(__name__)


@dataclass
class PeriodicJob:
    """A function that does all that is due and returns how much that was.

    A job that may take long (it waits for a push service) runs in its `own_thread`, so that an escalation
    never waits behind it.
    """

    function: Callable[[], int]
    every_seconds: float
    own_thread: bool = False
    due_at: float = field(default=0, compare=False)

    def run_if_due(self) -> None:
        if time.monotonic() < self.due_at:
            return
        self.due_at = time.monotonic() + self.every_seconds
        try:
            self.function()
        except Exception:
            logger.exception("Job %s failed and is tried again", self.function.__name__)


class Worker:
    """Runs the jobs, one after another, until it is stopped."""

    TICK_SECONDS = 0.25

    def __init__(self, jobs: Sequence[PeriodicJob]) -> None:
        self.jobs = [job for job in jobs if not job.own_thread]
        self._others = [Worker([replace(job, own_thread=False)]) for job in jobs if job.own_thread]
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """In this thread, until `stop`."""
        for other in self._others:
            other.start()
        while not self._stop.is_set():
            close_old_connections()
            reset_queries()
            for job in self.jobs:
                job.run_if_due()
            close_old_connections()
            self._stop.wait(self.TICK_SECONDS)

    def start(self) -> None:
        """In a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="worker", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float = 5) -> None:
        self._stop.set()
        for other in self._others:
            other.stop(timeout_seconds)
        if self._thread is not None:
            self._thread.join(timeout_seconds)
