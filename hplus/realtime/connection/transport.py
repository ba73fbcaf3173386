"""How frames get to a client and from it: straight through the server's protocol, or through ASGI.

`hplus.operations.websocket_protocol` offers itself in the scope, so that a frame costs no task and no queue.
Any other ASGI server (daphne under `runserver`) carries frames as Channels does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from hplus.protocol.wire import MAX_MESSAGE_BYTES

logger = logging.getLogger(__name__)
DIRECT = "hplus.direct"  # the extension in an ASGI scope
TOO_LARGE = b" " * (MAX_MESSAGE_BYTES + 1)  # in the place of a message that was too long to be kept
CLOSE_SECONDS = 10  # how long a reader that takes nothing may hold up its own end

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Sink(Protocol):
    """What takes a client's frames, and is told when it may write again."""

    def take(self, frame: bytes | None) -> bool:
        """A whole message, None for a binary one. Returns False where no more should be read for now."""
        ...

    def on_writable(self) -> None: ...


class Transport(Protocol):
    """One client's line."""

    is_writable: bool  # whether the reader keeps up; if not, `on_writable` is called once it does

    def attach(self, sink: Sink) -> None:
        """Tell the sink from now on when it may write again; frames go to it with `run`."""
        ...

    def write(self, frame: bytes) -> None:
        """Send one text frame."""
        ...

    def write_many(self, frames: Sequence[bytes]) -> None:
        """Send these text frames, one after another."""
        ...

    def resume_reading(self) -> None:
        """Read on after `take` has returned False."""
        ...

    async def run(self) -> int:
        """Read until the client is gone. Returns the close code."""
        ...

    def hand_over(self, on_end: Callable[[int], None]) -> bool:
        """Read without the coroutine of the handshake, and call back with the close code at the end.

        Returns False where that is not possible; then `run` reads.
        """
        ...

    async def close(self, code: int) -> None: ...


class AsgiTransport:
    """Through ASGI's `receive` and `send`."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._sink: Sink | None = None
        self.is_writable = True
        self._writing: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[Any] | None = None
        self._may_read = asyncio.Event()
        self._is_closing = self._is_gone = False

    def attach(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, frame: bytes) -> None:
        self.write_many((frame,))

    def write_many(self, frames: Sequence[bytes]) -> None:
        self.is_writable = False
        self._writing = asyncio.get_running_loop().create_task(self._write(frames))

    async def _write(self, frames: Sequence[bytes]) -> None:
        try:
            for frame in frames:
                await self._send({"type": "websocket.send", "text": frame.decode()})
        except Exception as gone:
            logger.debug("Not written: %s", type(gone).__name__)
            return
        finally:
            self._writing, self.is_writable = None, True
        if self._sink is not None:
            self._sink.on_writable()

    async def run(self) -> int:
        self._reading = asyncio.current_task()
        try:
            return 1006 if self._is_gone else await self._read()
        except asyncio.CancelledError:
            if not self._is_gone:
                raise
            return 1006

    async def _read(self) -> int:
        assert self._sink is not None
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                return int(event.get("code") or 1005)
            text = event.get("text")
            self._may_read.clear()
            wants_more = self._sink.take(None if text is None else text.encode("utf-8", "surrogatepass"))
            if not wants_more and not self._is_closing:
                await self._may_read.wait()

    def hand_over(self, on_end: Callable[[int], None]) -> bool:
        return False

    def resume_reading(self) -> None:
        self._may_read.set()

    async def close(self, code: int) -> None:
        self._is_closing = True
        self.resume_reading()  # the client's answer has to be read
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._writing is not None:
                    await asyncio.wait({self._writing})
                await self._send({"type": "websocket.close", "code": code})
        except Exception as gone:
            logger.debug("Not closed: %s", type(gone).__name__)
            self._abandon()

    def _abandon(self) -> None:
        """End `run`, or the client would stay registered, and be deaf once it reads again."""
        self._is_gone = True
        for task in (self._writing, self._reading):
            if task is not None:
                task.cancel()


def transport_of(scope: dict[str, Any], receive: Receive, send: Send) -> Transport:
    """Return the direct line where the server offers one."""
    direct: Transport | None = (scope.get("extensions") or {}).get(DIRECT)
    return direct or AsgiTransport(receive, send)
