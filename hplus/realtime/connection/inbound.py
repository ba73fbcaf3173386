"""What one client sends, on its way to a reply: in order, bounded, and rate limited."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Protocol

from django.conf import settings

from hplus import errors
from hplus.protocol import wire
from hplus.realtime import messages
from hplus.realtime.connection import rate_limits
from hplus.realtime.connection.handshake import Frame
from hplus.realtime.connection.transport import Transport
from hplus.realtime.hub.waiting_bytes import WaitingBytes

INBOUND_FRAMES = 200  # read ahead of the replies; then the client has to wait
BYTES_A_CREDIT = 8 * 1024  # of the frame rate limit; a shorter frame costs one credit, too
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


@cache
def _overtaking() -> re.Pattern[bytes]:
    types = [request.type for request in wire.subclasses(wire.Request) if request.urgent]
    return re.compile("|".join(f'"{name}"' for name in (*types, messages.Heartbeat.type)).encode())


def _may_overtake(message: bytes) -> bool:
    """Whether it may be of a type that does not wait in turn; false only where that is certain.

    Reading it costs a hundred times as much as this look, and in memory up to fifty times its size.
    """
    return bool(_overtaking().search(message)) or b"\\u" in message


class Inbound:
    """Frames that wait for their reply, as they came: they are parsed when their turn comes.

    They are handled one after another. An urgent request (a call for help) overtakes what was sent before
    it, and a heartbeat does not wait at all. Where too much waits, here or of this user in the whole
    process (`WaitingBytes`), no more is read.
    """

    __slots__ = (
        "_bytes",
        "_client",
        "_idle",
        "_is_busy",
        "_is_held",
        "_loop",
        "_rate_refusals",
        "_refused_at",
        "_transport",
        "_urgent",
        "_waiting",
        "is_closed",
        "on_writable",
    )

    def __init__(
        self,
        client: Handling,
        transport: Transport,
        on_writable: Callable[[], None],
        waiting_bytes: WaitingBytes,
    ) -> None:
        self._client, self._transport, self.on_writable = client, transport, on_writable
        self._bytes = waiting_bytes
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, bytes]] | None = None  # when it came, and what; made when needed
        self._urgent: deque[tuple[float, bytes]] | None = None
        self._is_busy = self._is_held = False  # held: the transport reads nothing until there is room
        self._idle: asyncio.Future[None] | None = None
        self._rate_refusals, self._refused_at = 0, 0.0
        self.is_closed = False  # what comes now is not taken any more

    def take(self, message: bytes | None) -> bool:
        """Take a message; None for a binary one. Returns False where no more should be read for now.

        Raises UnicodeDecodeError.
        """
        if self.is_closed:
            return False
        try:
            if message is None:
                raise errors.InvalidMessage(reason="frames are text, not binary")
            if self._is_busy and len(message) <= wire.MAX_MESSAGE_BYTES and not _may_overtake(message):
                return self._take_in_turn(message)
            frame = wire.parse(message)
        except errors.Refusal as refusal:
            self._client.refuse(self._frame_rate_refusal(message) or refusal, refusal.frame)
            return True
        request = self._client.request_class(frame.get("type"))
        if request is not None and request.urgent:
            self._handle(message, frame, is_urgent=True)
        elif too_fast := self._frame_rate_refusal(message):
            self._refuse_for_rate(too_fast, request, frame)
        elif request is messages.Heartbeat:
            self._client.reply_to_heartbeat(frame)  # it tells that the server lives, not the database
        else:
            self._handle(message, frame, is_urgent=False)
        return self._may_read_on()

    def _take_in_turn(self, message: bytes) -> bool:
        """Queue what overtakes nothing, without reading it."""
        if not message.isascii():
            message.decode()
        if too_fast := self._frame_rate_refusal(message):
            self._refuse_unread(too_fast, message)
        else:
            self._enqueue(message, is_urgent=False)
        return self._may_read_on()

    def _refuse_unread(self, too_fast: errors.RateLimited, message: bytes) -> None:
        """Refuse it by its `requestId`, and not at all where the client must not be bothered."""
        try:
            frame = wire.parse(message)
        except errors.Refusal as refusal:
            frame = refusal.frame
        self._refuse_for_rate(too_fast, self._client.request_class(frame.get("type")), frame)

    def _refuse_for_rate(
        self, too_fast: errors.RateLimited, request: type[wire.Request] | None, frame: Frame
    ) -> None:
        if request is None or not request.no_reply or too_fast.close_code:
            self._client.refuse(too_fast, frame)

    def _handle(self, message: bytes, frame: Frame, *, is_urgent: bool) -> None:
        """At once where nothing is being handled, else in its turn."""
        if self._is_busy:
            self._enqueue(message, is_urgent=is_urgent)
        else:
            self._is_busy = not self._client.handle(self._loop.time(), frame, self._on_done)

    def _enqueue(self, message: bytes, *, is_urgent: bool) -> None:
        entry = self._loop.time(), message
        if is_urgent:
            self._urgent = self._urgent or deque()
            self._urgent.append(entry)
        else:
            self._waiting = self._waiting or deque()
            self._waiting.append(entry)
        self._bytes.add(self._client.user_id, len(message))

    def _on_done(self) -> None:
        """One is done; the next ones that need no waiting are done with it."""
        self._is_busy = False
        while not self._is_busy and (queue := self._urgent or self._waiting):
            came_at, message = queue.popleft()
            self._bytes.remove(self._client.user_id, len(message))
            self._is_busy = not self._answer(came_at, message)
        self._resume()
        if not self._is_busy:
            self._waiting = self._urgent = None
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)

    def _answer(self, came_at: float, message: bytes) -> bool:
        """Read and begin to answer what has waited. Returns whether that is done."""
        try:
            frame = wire.parse(message)
        except errors.Refusal as refusal:
            self._client.refuse(refusal, refusal.frame)
            return True
        return self._client.handle(came_at, frame, self._on_done)

    # Back-pressure

    @property
    def _count(self) -> int:
        return len(self._waiting or ()) + len(self._urgent or ())

    def _may_read_on(self) -> bool:
        if not self._waiting and not self._urgent:
            return True
        if self._count < INBOUND_FRAMES and self._bytes.has_room(self._client.user_id):
            return True
        self._is_held = True
        self._resume()
        return not self._is_held

    def _resume(self) -> None:
        """Read on once half of the room is free; what other connections of the user hold may be the rest."""
        if not self._is_held or self._count >= INBOUND_FRAMES // 2:
            return
        if self._bytes.has_room(self._client.user_id, share=1 / 2):
            self._is_held = False
            self._transport.resume_reading()
        else:
            self._bytes.wait_for_room(self._client.user_id, self._resume)

    async def drained(self, seconds: float) -> None:
        """Wait until everything taken has been answered, or the time is over."""
        if self._is_busy:
            self._idle = self._loop.create_future()
            await asyncio.wait({self._idle}, timeout=seconds)

    # Rate limits

    def _frame_rate_refusal(self, message: bytes | None) -> errors.RateLimited | None:
        """Frames of any type above the frame rate limit are refused before anything is done for them.

        A long one costs as much as several.
        """
        if not settings.HPLUS_MESSAGES_PER_MINUTE:
            return None
        cost = 1 + len(message or b"") // BYTES_A_CREDIT
        wait_seconds = rate_limits.frame_limits.take(self._client.user_id, cost)
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
