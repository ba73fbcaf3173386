"""What one client sends, on its way to a reply: in order, bounded, and rate limited."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Protocol

from django.conf import settings

from hplus import errors
from hplus.protocol import wire
from hplus.realtime import messages
from hplus.realtime.connection import rate_limits
from hplus.realtime.connection.handshake import Frame, Receive

INBOUND_FRAMES = 200  # read ahead of the replies; then the client has to wait
ABUSE_FRAMES = 600  # refused for their rate, one after another


class Handling(Protocol):
    """What becomes of a frame: the connection answers or refuses it."""

    @property
    def user_id(self) -> str: ...
    def request_class(self, event_type: str) -> type[wire.Request] | None: ...
    def refuse(self, refusal: errors.Refusal, frame: Frame) -> None: ...
    def reply_to_heartbeat(self, frame: Frame) -> None: ...
    def handle(self, came_at: float, frame: Frame) -> Awaitable[None]: ...


class Inbound:
    """Frames that wait for their reply.

    One task handles them one after another. An urgent request (a call for help) overtakes what was sent
    before it, and a heartbeat does not wait at all.
    """

    def __init__(self, client: Handling) -> None:
        self._client = client
        self._waiting: deque[tuple[float, Frame]] = deque()  # when it came, and what
        self._urgent: deque[tuple[float, Frame]] = deque()
        self._has_room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._rate_refusals = 0
        self.is_closed = False  # what comes now is not taken any more

    async def read(self, receive: Receive) -> int:
        """Take frames until the client is gone. Returns the close code."""
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                return int(event.get("code") or 1005)
            self._take(event.get("text"))
            if len(self._waiting) + len(self._urgent) >= INBOUND_FRAMES:
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
            self._client.refuse(self._frame_rate_refusal() or refusal, {})
            return
        request = self._request_of(frame)
        if request is not None and request.urgent:
            self._put(self._urgent, frame)
        elif too_fast := self._frame_rate_refusal():
            if request is None or not request.no_reply or too_fast.close_code:
                self._client.refuse(too_fast, frame)
        elif request is messages.Heartbeat:
            self._client.reply_to_heartbeat(frame)  # it tells that the server lives, not the database
        else:
            self._put(self._waiting, frame)

    def _request_of(self, frame: Frame) -> type[wire.Request] | None:
        """The class of this frame's type, where a consumer here handles it."""
        request_type = frame.get("type")
        return self._client.request_class(request_type) if isinstance(request_type, str) else None

    def _put(self, queue: deque[tuple[float, Frame]], frame: Frame) -> None:
        loop = asyncio.get_running_loop()
        queue.append((loop.time(), frame))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._handle_waiting())

    async def _handle_waiting(self) -> None:
        while self._urgent or self._waiting:
            await self._client.handle(*(self._urgent or self._waiting).popleft())
            if len(self._waiting) + len(self._urgent) < INBOUND_FRAMES // 2:
                self._has_room.set()

    async def drained(self, seconds: float) -> None:
        """Wait until everything taken has been answered, or the time is over."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=seconds)

    # Rate limits

    def _frame_rate_refusal(self) -> errors.RateLimited | None:
        """Frames of any type above the frame rate limit are refused before anything is done for them."""
        if not settings.HPLUS_MESSAGES_PER_MINUTE:
            return None
        wait_seconds = rate_limits.frame_limits.of(self._client.user_id).take()
        return self._rate_limited(wait_seconds) if wait_seconds else None

    def take_message_credit(self) -> None:
        """Spend a credit of the message rate limit. Raises RateLimited."""
        if not settings.HPLUS_MESSAGES_PER_MINUTE:
            return
        if wait_seconds := rate_limits.message_limits.of(self._client.user_id).take():
            raise self._rate_limited(wait_seconds)
        self._rate_refusals = 0

    def _rate_limited(self, wait_seconds: float) -> errors.RateLimited:
        self._rate_refusals += 1
        is_abuse = self._rate_refusals > ABUSE_FRAMES
        return errors.RateLimited(retry_after=round(wait_seconds, 3), close_code=4101 if is_abuse else None)
