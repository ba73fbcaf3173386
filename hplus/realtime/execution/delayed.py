"""Commands that wait for others because each is worth little alone, such as a position a second.

A delay costs the database one transaction for hundreds of rows instead of hundreds of transactions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from hplus.realtime.execution.batching import Outcome

C = TypeVar("C")
OnOutcome = Callable[[Outcome], None]


class Delayed(Generic[C]):
    """Hands commands on together, at most every so many seconds; one that comes after a pause at once.

    `submit` takes a command and what to call with its outcome, a result or an exception.
    """

    def __init__(self, submit: Callable[[C, OnOutcome], None], every_seconds: float) -> None:
        self._submit, self._every_seconds = submit, every_seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[C, OnOutcome]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._handed_on_at = self._loop.time() - every_seconds

    def add(self, command: C, on_outcome: OnOutcome) -> None:
        self._waiting.append((command, on_outcome))
        if self._timer is None:
            self._timer = self._loop.call_at(self._handed_on_at + self._every_seconds, self.hurry)

    def hurry(self) -> None:
        """Hand on now what waits."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._handed_on_at = None, self._loop.time()
        waiting, self._waiting = self._waiting, []
        for command, on_outcome in waiting:
            self._submit(command, on_outcome)


def settle(on_outcome: Callable[[Any], None], done: asyncio.Future[Any]) -> None:
    """Call back with what a future holds."""
    if not done.cancelled():
        on_outcome(done.exception() or done.result())
