"""What a connection still has to write: in order, bounded, and no event twice."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from hplus.operations import metrics
from hplus.realtime.publishing.envelopes import Envelope

logger = logging.getLogger(__name__)
REMEMBERED_EVENTS = 12_000  # more than a replay holds (replay.REPLAY_MOST)


class Outbound:
    """Frames on their way to one client.

    A reader that takes nothing costs at most the bound; then `too_slow` is called. What can be left out
    is not put in without `has_room`. `on_written` is called for each durable event that has been written.
    """

    def __init__(
        self,
        send: Callable[[Any], Awaitable[None]],
        on_written: Callable[[Envelope], None],
        too_slow: Callable[[], None],
    ) -> None:
        self._send, self._on_written, self._too_slow = send, on_written, too_slow
        self._waiting: deque[tuple[str, Envelope | None]] = deque()
        self._bytes = 0
        self._written: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self.is_closed = False

    def put(self, text: str) -> None:
        self._enqueue(text, None)

    def put_event(self, envelope: Envelope, *, again: bool = False) -> None:
        """Write an event; one that this connection has had only where the client asked for it again."""
        if envelope.event_id and self._is_known(envelope) and not again:
            return
        self._enqueue(envelope.frame, envelope)

    def _is_known(self, envelope: Envelope) -> bool:
        key = (envelope.event_id, envelope.event_type)
        known = key in self._written
        self._written[key] = None
        if len(self._written) > REMEMBERED_EVENTS:
            self._written.popitem(last=False)
        return known

    def _enqueue(self, text: str, envelope: Envelope | None) -> None:
        if self.is_closed:
            return
        self._waiting.append((text, envelope))
        self._bytes += len(text)
        if self._is_full():
            self._give_up()
        elif self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write())

    def _is_full(self, share: float = 1) -> bool:
        too_many = len(self._waiting) > settings.OUTBOUND_FRAMES * share
        return too_many or self._bytes > settings.OUTBOUND_BYTES * share

    def _give_up(self) -> None:
        self._waiting.clear()
        self._bytes = 0
        self._too_slow()

    async def _write(self) -> None:
        while self._waiting:
            text, envelope = self._waiting.popleft()
            self._bytes -= len(text)
            if not await self._write_one(text):
                return
            if envelope is not None and envelope.event_id:
                self._on_written(envelope)

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
        """Whether the reader keeps up with what it is sent."""
        return not self._is_full(share=1 / 4)

    async def wait_for_room(self) -> bool:
        """Wait for the reader a while. Returns False where it takes nothing."""
        if not self.has_room:
            await self.drained(settings.SLOW_READER_SECONDS)
            return self.is_closed or not self._waiting
        return True

    async def drained(self, seconds: float) -> None:
        """Wait until everything has been written, or the time is over."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=seconds)

    def close(self) -> None:
        self.is_closed = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
