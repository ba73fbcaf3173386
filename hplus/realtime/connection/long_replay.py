"""A long replay: a client that is far behind gets its mailbox in pages, as fast as it reads, then live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hplus import errors
from hplus.api.answers import as_refusal
from hplus.realtime.connection.outbound import Outbound
from hplus.realtime.execution.db_threads import in_db_thread
from hplus.realtime.publishing.envelopes import Envelope
from hplus.realtime.publishing.mailbox import page_between


class Lagging(Protocol):
    """What a long replay needs of a connection."""

    user_id: str
    outbound: Outbound

    def deliver_now(self, envelope: Envelope, seq: int) -> None: ...
    def too_slow(self) -> None: ...
    def end(self, refusal: errors.Refusal) -> None: ...


class LongReplay:
    """Where a client stands in its mailbox, and up to where there are entries.

    What is published meanwhile is not kept: it is in the mailbox.
    """

    __slots__ = ("_client", "_on_end", "_up_to", "position")

    def __init__(self, client: Lagging, since: int, up_to: int, on_end: Callable[[], None]) -> None:
        self._client, self.position, self._up_to, self._on_end = client, since, up_to, on_end

    def expect(self, seq: int) -> None:
        """Note that there are entries up to here."""
        self._up_to = max(self._up_to, seq)

    async def run(self) -> None:
        """Pass on all entries, each page when the one before has been written."""
        try:
            while self.position < self._up_to:
                if not await self._client.outbound.wait_until_drained():
                    self._client.too_slow()
                    return
                await self._pass_on_a_page()
        except Exception as unforeseen:  # the client comes back with its cursor
            self._client.end(as_refusal(unforeseen))
            return
        self._on_end()

    async def _pass_on_a_page(self) -> None:
        up_to = self._up_to
        page = await in_db_thread(page_between, self._client.user_id, self.position, up_to)
        for seq, envelope in page:
            self.position = seq
            if envelope is not None:
                self._client.deliver_now(envelope, seq)
        if not page:  # past keeping
            self.position = up_to
