"""Whether any other server listens: nothing needs to be published while this one is alone."""

from __future__ import annotations

import asyncio

HELLO_COUNTS_SECONDS = 30  # a server that has just said hello may not have its row in the database yet


class Neighbours:
    """Known from the registered servers, and from the hello of a server that starts.

    Until the database has been asked once, there may be some. A server that starts between two
    reconciliations and is not heard misses wake-ups, not events: its own reconciliation finds them.
    """

    def __init__(self) -> None:
        self._are_registered = True
        self._heard_until = 0.0

    def note_registered(self, are_there: bool) -> None:
        self._are_registered = are_there

    def note_heard(self) -> None:
        self._heard_until = asyncio.get_running_loop().time() + HELLO_COUNTS_SECONDS

    def is_alone(self) -> bool:
        return not self._are_registered and asyncio.get_running_loop().time() > self._heard_until
