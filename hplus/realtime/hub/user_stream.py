"""The stream of one user: durable events pass in order, without gaps, and none twice."""

from __future__ import annotations

import asyncio
import logging

from hplus.realtime.execution.db_threads import in_reconciliation_thread
from hplus.realtime.hub.listener import Listener
from hplus.realtime.publishing.envelopes import Envelope
from hplus.realtime.publishing.mailbox import page_between

logger = logging.getLogger(__name__)
GAP_SECONDS = 0.1  # how long an event that came too early waits for the one before it
EARLY_MOST = 1_000  # events that are kept while they wait so; those after them are read from the mailbox


def deliver_to(client: Listener, envelope: Envelope, seq: int | None = None) -> None:
    """Deliver to one connection; one that fails must not keep the event from the others."""
    try:
        client.deliver(envelope, seq)
    except Exception:
        logger.exception("%s could not take a %s", client.connection_id, envelope.event_type)


class UserStream:
    """The durable events of one user, for all connections that user has in this process."""

    __slots__ = ("_early", "_newest", "_repair", "clients", "last_seq", "user_id")

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.clients: set[Listener] = set()
        self.last_seq: int | None = None  # until the first connection has read its mailbox
        self._early: dict[int, Envelope | None] | None = None  # made when one comes too early
        self._newest = 0
        self._repair: asyncio.Task[None] | None = None

    def start_after(self, seq: int) -> None:
        """The mailbox stood at this place when the first connection read it."""
        if self.last_seq is None:
            self.last_seq = seq
            self._deliver_in_order()

    def receive(self, seq: int, envelope: Envelope | None) -> None:
        """Take an event at its place; None for one whose row is gone, which must not hold up the next."""
        if self.last_seq is not None:
            if seq <= self.last_seq:
                return
            if seq == self.last_seq + 1 and self._early is None:  # as nearly always
                self.last_seq = seq
                self._deliver(envelope, seq)
                return
        early = {} if self._early is None else self._early
        if len(early) < EARLY_MOST or seq - 1 == self.last_seq:
            early[seq] = envelope
        self._early, self._newest = early, max(self._newest, seq)
        self._deliver_in_order()

    def _deliver_in_order(self) -> None:
        if self.last_seq is None or self._early is None:
            return
        early = self._early
        while self.last_seq + 1 in early:
            envelope = early.pop(self.last_seq + 1)
            self.last_seq += 1
            self._deliver(envelope, self.last_seq)
        self._early = {seq: envelope for seq, envelope in early.items() if seq > self.last_seq} or None
        if self._newest > self.last_seq:
            self.fetch_up_to(self._newest)

    def _deliver(self, envelope: Envelope | None, seq: int) -> None:
        if envelope is not None:
            for client in tuple(self.clients):
                deliver_to(client, envelope, seq)

    def fetch_up_to(self, seq: int) -> None:
        """Read the entries up to here from the mailbox, as far as they do not come by themselves."""
        self.expect(seq)
        self.fetch_missing()

    def fetch_missing(self) -> None:
        if self._repair is None or self._repair.done():
            self._repair = asyncio.get_running_loop().create_task(self._fetch())

    def expect(self, seq: int) -> None:
        """Note that there are entries up to here."""
        self._newest = max(self._newest, seq)

    @property
    def is_behind(self) -> bool:
        return self.last_seq is not None and self.last_seq < self._newest

    async def _fetch(self) -> None:
        """Wait GAP_SECONDS, then read what is missing.

        Two transactions may commit as 5, 6 and reach the loop as 6, 5, so most gaps close by themselves.
        """
        await asyncio.sleep(GAP_SECONDS)
        if self.last_seq is None or self.last_seq >= self._newest or not self.clients:
            return
        try:
            missing = await in_reconciliation_thread(page_between, self.user_id, self.last_seq)
        except Exception:
            logger.exception("Entries could not be fetched; the next reconciliation tries again")
            return
        for seq, envelope in missing:
            await self._keep_pace()
            self.receive(seq, envelope)
        self._repair = None
        if missing and self.last_seq < self._newest:
            self.fetch_up_to(self._newest)

    async def _keep_pace(self) -> None:
        """Wait for the quickest reader: one that takes nothing must not keep an alarm from the others."""
        if not self.clients or any(client.has_room for client in self.clients):
            return
        waits = [asyncio.ensure_future(client.wait_for_room()) for client in self.clients]
        _, slower = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in slower:
            wait.cancel()
