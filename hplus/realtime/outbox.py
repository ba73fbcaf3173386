"""What a socket still has to write: in order, bounded, and never twice."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from hplus import metrics
from hplus.realtime.parcels import Parcel

logger = logging.getLogger(__name__)
REMEMBERED_LETTERS = 12_000  # more than a replay holds (catching_up.REPLAY_MOST)


class Outbox:
    """Frames on their way to one client.

    A reader that takes nothing costs at most the bound; then `too_slow` is called. Whatever can
    be left out is not put in without `has_room`. `written` is called for each letter that has gone out.
    """

    def __init__(
        self,
        send: Callable[[Any], Awaitable[None]],
        written: Callable[[Parcel], None],
        too_slow: Callable[[], None],
    ) -> None:
        self._send, self._written, self._too_slow = send, written, too_slow
        self._waiting: deque[tuple[str, Parcel | None]] = deque()
        self._bytes = 0
        self._letters: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self.is_closed = False

    def put(self, text: str) -> None:
        self._enqueue(text, None)

    def put_letter(self, parcel: Parcel, *, again: bool = False) -> None:
        """On one socket nothing comes twice, unless the client asked for it again."""
        if parcel.event_id and self._is_known(parcel) and not again:
            return
        self._enqueue(parcel.frame, parcel)

    def _is_known(self, parcel: Parcel) -> bool:
        key = (parcel.event_id, parcel.word)
        known = key in self._letters
        self._letters[key] = None
        if len(self._letters) > REMEMBERED_LETTERS:
            self._letters.popitem(last=False)
        return known

    def _enqueue(self, text: str, parcel: Parcel | None) -> None:
        if self.is_closed:
            return
        self._waiting.append((text, parcel))
        self._bytes += len(text)
        if self._is_full():
            self._give_up()
        elif self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write())

    def _is_full(self, share: float = 1) -> bool:
        too_many = len(self._waiting) > settings.SOCKET_BACKLOG_FRAMES * share
        return too_many or self._bytes > settings.SOCKET_BACKLOG_BYTES * share

    def _give_up(self) -> None:
        self._waiting.clear()
        self._bytes = 0
        self._too_slow()

    async def _write(self) -> None:
        while self._waiting:
            text, parcel = self._waiting.popleft()
            self._bytes -= len(text)
            if not await self._write_one(text):
                return
            if parcel is not None and parcel.event_id:
                self._written(parcel)

    async def _write_one(self, text: str) -> bool:
        try:
            await self._send({"type": "websocket.send", "text": text})
        except Exception as gone:
            logger.debug("Not written: %s", type(gone).__name__)
            self.is_closed = True
            return False
        metrics.frames_out.inc()
        return True

    @property
    def has_room(self) -> bool:
        """Whether the reader keeps up with what it is told."""
        return not self._is_full(share=1 / 4)

    async def room(self) -> bool:
        """Wait for the reader a while; False where it takes nothing."""
        if not self.has_room:
            await self.drained(settings.SLOW_READER_SECONDS)
            return self.is_closed or not self._waiting
        return True

    async def drained(self, seconds: float) -> None:
        """Everything has been written, or the time is over."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=seconds)

    def close(self) -> None:
        self.is_closed = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
