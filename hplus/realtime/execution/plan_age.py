"""When a connection plans its prepared statements anew.

A generic plan made while a table was small may keep reading all of it, and planning costs five milliseconds a
statement. As a table grows more slowly for its size, each plan is kept twice as long as the one before.
"""

from __future__ import annotations

import time

FIRST_SECONDS = 10.0
LONGEST_SECONDS = 640.0


class PlanAge:
    """How old the plans of one connection are."""

    __slots__ = ("_due_at", "_seconds")

    def __init__(self) -> None:
        self._seconds = FIRST_SECONDS
        self._due_at = time.monotonic() + self._seconds

    def is_over(self) -> bool:
        """Return whether they are to be given up now; the next ones begin with this call."""
        now = time.monotonic()
        if now < self._due_at:
            return False
        self._seconds = min(2 * self._seconds, LONGEST_SECONDS)
        self._due_at = now + self._seconds
        return True
