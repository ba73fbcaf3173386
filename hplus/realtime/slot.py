"""The slot of one person: letters pass through it in order, without gaps, and nothing twice."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from hplus.realtime import bridge, rounds
from hplus.realtime.parcels import Parcel

if TYPE_CHECKING:
    from hplus.realtime.socket import Socket

logger = logging.getLogger(__name__)
GAP_SECONDS = 0.1  # how long a letter that came too early waits for the one before it


def hand_over(socket: Socket, parcel: Parcel) -> None:
    """One socket that can't take it must not keep it from the others."""
    try:
        socket.hear(parcel)
    except Exception:
        logger.exception("%s could not take a %s", socket.connection_id, parcel.word)


class Slot:
    """The letters of one person, for all sockets that person has here."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.sockets: set[Socket] = set()
        self.last_seq: int | None = None  # until the first socket has read its mailbox
        self._early: dict[int, Parcel | None] = {}
        self._newest = 0
        self._repair: asyncio.Task[None] | None = None

    def start_after(self, seq: int) -> None:
        if self.last_seq is None:
            self.last_seq = seq
            self._let_through()

    def receive(self, seq: int, parcel: Parcel | None) -> None:
        """A letter; None for one whose row is gone, which must not hold up those behind it."""
        if self.last_seq is not None and seq <= self.last_seq:
            return
        self._early[seq] = parcel
        self._let_through()

    def _let_through(self) -> None:
        if self.last_seq is None:
            return
        while self.last_seq + 1 in self._early:
            parcel = self._early.pop(self.last_seq + 1)
            self.last_seq += 1
            if parcel is not None:
                self._pass_on(parcel.letter_for(self.user_id, self.last_seq))
        self._early = {seq: parcel for seq, parcel in self._early.items() if seq > self.last_seq}
        if self._early:
            self.catch_up_to(max(self._early))

    def _pass_on(self, letter: Parcel) -> None:
        for socket in tuple(self.sockets):
            hand_over(socket, letter)

    def catch_up_to(self, seq: int) -> None:
        """There are letters up to here. Those that do not come by themselves are read from the database."""
        self._newest = max(self._newest, seq)
        if self._repair is None or self._repair.done():
            self._repair = asyncio.get_running_loop().create_task(self._fetch())

    async def _fetch(self) -> None:
        """Usually they were just on their way: two threads commit in one order and speak in another."""
        await asyncio.sleep(GAP_SECONDS)
        if self.last_seq is None or self.last_seq >= self._newest or not self.sockets:
            return
        try:
            missing = await bridge.in_round(rounds.letters, self.user_id, self.last_seq)
        except Exception:
            logger.exception("Letters could not be fetched; the next round tries again")
            return
        for seq, parcel in missing:
            await self._keeping_pace()
            self.receive(seq, parcel)
        self._repair = None
        if missing and self.last_seq < self._newest:
            self.catch_up_to(self._newest)

    async def _keeping_pace(self) -> None:
        """The quickest reader sets it: one that takes nothing must not keep an alarm from the others."""
        outboxes = [socket.outbox for socket in self.sockets]
        if not outboxes or any(outbox.has_room for outbox in outboxes):
            return
        waits = [asyncio.ensure_future(outbox.room()) for outbox in outboxes]
        _, slower = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in slower:
            wait.cancel()
