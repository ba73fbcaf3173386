"""What must happen on time although nobody asks: due rows in the database, claimed by whoever comes first.

Several workers may run; each duty claims its rows, so that nothing is done twice. A duty that
fails is logged and tried again; it never stops the others.
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
class Duty:
    """A callable that does all that is due and returns how much that was.

    One that waits for other houses is done `apart`, in a thread of its own: an escalation
    does not wait for a push service.
    """

    do: Callable[[], int]
    every_seconds: float
    apart: bool = False
    due_at: float = field(default=0, compare=False)

    def do_if_due(self) -> None:
        if time.monotonic() < self.due_at:
            return
        self.due_at = time.monotonic() + self.every_seconds
        try:
            self.do()
        except Exception:
            logger.exception("Duty %s failed and is tried again", self.do.__name__)


class Worker:
    """Does the duties, one after another, until it is stopped."""

    TICK_SECONDS = 0.25

    def __init__(self, duties: Sequence[Duty]) -> None:
        self.duties = [duty for duty in duties if not duty.apart]
        self._others = [Worker([replace(duty, apart=False)]) for duty in duties if duty.apart]
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """In this thread, until `stop`."""
        for other in self._others:
            other.start()
        while not self._stop.is_set():
            close_old_connections()
            reset_queries()
            for duty in self.duties:
                duty.do_if_due()
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
