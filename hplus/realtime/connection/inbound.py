"""What one client sends, on its way to a reply: in order, bounded, and rate limited."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from django.conf import settings

from hplus import errors
from hplus.protocol import wire
from hplus.realtime import messages
from hplus.realtime.connection import rate_limits
from hplus.realtime.connection.handshake import Frame
from hplus.realtime.connection.transport import Transport

INBOUND_FRAMES = 200  # read ahead of the replies; then the client has to wait
ABUSE_FRAMES = 600  # refused for their rate, one after another


class Handling(Protocol):
    """What becomes of a frame: the connection answers or refuses it."""

    user_id: str

    def request_class(self, request_type: object) -> type[wire.Request] | None: ...
    def refuse(self, refusal: errors.Refusal, frame: Frame) -> None: ...
    def reply_to_heartbeat(self, frame: Frame) -> None: ...
    def handle(self, came_at: float, frame: Frame, on_done: Callable[[], None]) -> bool:
        """Answer a frame. Returns whether that is done; if not, `on_done` is called once it is."""
        ...


class Inbound:
    """Frames that wait for their reply.

    They are handled one after another. An urgent request (a call for help) overtakes what was sent before
    it, and a heartbeat does not wait at all.
    """

    __slots__ = (
        "_client",
        "_idle",
        "_is_busy",
        "_loop",
        "_rate_refusals",
        "_refused_at",
        "_transport",
        "_urgent",
        "_waiting",
        "is_closed",
        "on_writable",
    )

    def __init__(self, client: Handling, transport: Transport, on_writable: Callable[[], None]) -> None:
        self._client, self._transport, self.on_writable = client, transport, on_writable
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, Frame]] | None = None  # when it came, and what; made when needed
        self._urgent: deque[tuple[float, Frame]] | None = None
        self._is_busy = False
        self._idle: asyncio.Future[None] | None = None
        self._rate_refusals, self._refused_at = 0, 0.0
        self.is_closed = False  # what comes now is not taken any more

    def take(self, message: bytes | None) -> bool:
        """Take a message; None for a binary one. Returns False where no more should be read for now."""
        if self.is_closed:
            return True
        try:
            if message is None:
                raise errors.InvalidMessage(reason="frames are text, not binary")
            frame = wire.parse(message)
        except errors.Refusal as refusal:
            self._client.refuse(self._frame_rate_refusal() or refusal, refusal.frame)
            return True
        request = self._client.request_class(frame.get("type"))
        if request is not None and request.urgent:
            self._handle(frame, is_urgent=True)
        elif too_fast := self._frame_rate_refusal():
            if request is None or not request.no_reply or too_fast.close_code:
                self._client.refuse(too_fast, frame)
        elif request is messages.Heartbeat:
            self._client.reply_to_heartbeat(frame)  # it tells that the server lives, not the database
        else:
            self._handle(frame, is_urgent=False)
        return self._count < INBOUND_FRAMES

    @property
    def _count(self) -> int:
        return len(self._waiting or ()) + len(self._urgent or ())

    def _handle(self, frame: Frame, *, is_urgent: bool) -> None:
        """At once where nothing is being handled, else in its turn."""
        now = self._loop.time()
        if not self._is_busy:
            self._is_busy = not self._client.handle(now, frame, self._on_done)
        elif is_urgent:
            self._urgent = deque() if self._urgent is None else self._urgent
            self._urgent.append((now, frame))
        else:
            self._waiting = deque() if self._waiting is None else self._waiting
            self._waiting.append((now, frame))

    def _on_done(self) -> None:
        """One is done; the next ones that need no waiting are done with it."""
        was_full = self._count >= INBOUND_FRAMES // 2
        self._is_busy = False
        while not self._is_busy and (queue := self._urgent or self._waiting):
            came_at, frame = queue.popleft()
            self._is_busy = not self._client.handle(came_at, frame, self._on_done)
        if was_full and self._count < INBOUND_FRAMES // 2:
            self._transport.resume_reading()
        if not self._is_busy:
            self._waiting = self._urgent = None
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)

    async def drained(self, seconds: float) -> None:
        """Wait until everything taken has been answered, or the time is over."""
        if self._is_busy:
            self._idle = self._loop.create_future()
            await asyncio.wait({self._idle}, timeout=seconds)

    # Rate limits

    def _frame_rate_refusal(self) -> errors.RateLimited | None:
        """Frames of any type above the frame rate limit are refused before anything is done for them."""
        if not settings.HPLUS_MESSAGES_PER_MINUTE:
            return None
        wait_seconds = rate_limits.frame_limits.take(self._client.user_id)
        return self._rate_limited(wait_seconds) if wait_seconds else None

    def take_message_credit(self, came_at: float) -> None:
        """Spend a credit of the message rate limit. Raises RateLimited."""
        if not settings.HPLUS_MESSAGES_PER_MINUTE:
            return
        if wait_seconds := rate_limits.message_limits.take(self._client.user_id):
            raise self._rate_limited(wait_seconds)
        if came_at > self._refused_at:
            self._rate_refusals = 0

    def _rate_limited(self, wait_seconds: float) -> errors.RateLimited:
        self._rate_refusals += 1
        self._refused_at = self._loop.time()
        is_abuse = self._rate_refusals > ABUSE_FRAMES
        return errors.RateLimited(retry_after=round(wait_seconds, 3), close_code=4101 if is_abuse else None)
