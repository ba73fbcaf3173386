"""What one client says, on its way to an answer: in order, bounded, and not too fast."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from django.conf import settings

from hplus import errors, wire
from hplus.realtime import messages
from hplus.realtime.handshake import Frame, Receive

if TYPE_CHECKING:
    from hplus.realtime.socket import Socket

INBOX_FRAMES = 200  # read ahead of the answers; then the client has to wait
ABUSE_FRAMES = 600  # refused for their rate, one after another


class Intake:
    """Frames that wait for their answer.

    They are answered one after another by one task. A call for help overtakes what was said
    before it, and a heartbeat does not wait at all.
    """

    def __init__(self, socket: Socket) -> None:
        self._socket, self._board = socket, socket.board
        self._inbox: deque[tuple[float, Frame]] = deque()  # when it came, and what
        self._urgent: deque[tuple[float, Frame]] = deque()
        self._has_room = asyncio.Event()
        self._working: asyncio.Task[None] | None = None
        self._rate_refusals = 0
        self.is_closed = False  # what comes now is not taken any more

    async def read(self, receive: Receive) -> int:
        """Take frames until the client is gone; the close code."""
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                return int(event.get("code") or 1005)
            self._take(event.get("text"))
            if len(self._inbox) + len(self._urgent) >= INBOX_FRAMES:
                self._has_room.clear()
                await self._has_room.wait()

    def _take(self, text: str | None) -> None:
        if self.is_closed:
            return
        try:
            if text is None:
                raise errors.InvalidMessage(reason="frames are text, not binary")
            frame = wire.parse(text)
        except errors.Refusal as refusal:
            self._socket.refuse(self._out_of_breath() or refusal, {})
            return
        asked = self._request_of(frame)
        if asked is not None and asked.always_heard:
            self._put(self._urgent, frame)
        elif breathless := self._out_of_breath():
            if asked is None or not asked.quiet or breathless.close_code:
                self._socket.refuse(breathless, frame)
        elif asked is messages.Heartbeat:
            self._socket.answer_heartbeat(frame)  # it tells that the server lives, not the database
        else:
            self._put(self._inbox, frame)

    def _request_of(self, frame: Frame) -> type[wire.Request] | None:
        """The class of this frame's word, where somebody here takes it."""
        word = frame.get("type")
        handled = self._socket.handlers.get(word) if isinstance(word, str) else None
        return handled[1].request if handled else None

    def _put(self, queue: deque[tuple[float, Frame]], frame: Frame) -> None:
        queue.append((self._board.loop.time(), frame))
        if self._working is None or self._working.done():
            self._working = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._urgent or self._inbox:
            await self._socket.answer(*(self._urgent or self._inbox).popleft())
            if len(self._inbox) + len(self._urgent) < INBOX_FRAMES // 2:
                self._has_room.set()

    async def drained(self, seconds: float) -> None:
        """Everything taken has been answered, or the time is over."""
        if self._working is not None:
            await asyncio.wait({self._working}, timeout=seconds)

    # Not too fast

    def _out_of_breath(self) -> errors.RateLimited | None:
        """Whoever talks without a pause, whatever the words, is refused before anything is done for it."""
        if not settings.HPLUS_MESSAGES_PER_MINUTE:
            return None
        wait_seconds = self._board.breath.of(self._socket.user_id).take()
        return self._too_fast(wait_seconds) if wait_seconds else None

    def spend_credit(self) -> None:
        """For a word whose number is limited. Raises RateLimited."""
        if not settings.HPLUS_MESSAGES_PER_MINUTE:
            return
        if wait_seconds := self._board.credits.of(self._socket.user_id).take():
            raise self._too_fast(wait_seconds)
        self._rate_refusals = 0

    def _too_fast(self, wait_seconds: float) -> errors.RateLimited:
        self._rate_refusals += 1
        is_abuse = self._rate_refusals > ABUSE_FRAMES
        return errors.RateLimited(retry_after=round(wait_seconds, 3), close_code=4101 if is_abuse else None)
