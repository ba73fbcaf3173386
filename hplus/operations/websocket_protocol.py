"""uvicorn's WebSocket protocol, with a direct line for frames."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from websockets.http11 import Request

from hplus.operations.websocket_frames import TEXT
from hplus.operations.websocket_reading import ReadingProtocol
from hplus.realtime.connection.transport import CLOSE_SECONDS, DIRECT

logger = logging.getLogger(__name__)
BUFFERED_BYTES = (
    16 * 1024
)  # of a connection that the event loop takes ahead, so that what is urgent can overtake


class WebSocketProtocol(ReadingProtocol):
    """uvicorn's own, with a direct line for frames once the handshake is over.

    uvicorn carries each frame through a queue and a task, and stops and starts reading for it. On the direct
    line (`hplus.realtime.connection.transport`) a whole text frame goes from `data_received` to the sink and
    from `write` to the transport. It also ends a handshake too long to read, which uvicorn would leave
    waiting for ever.
    """

    _on_end: Callable[[int], None] | None = None

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions: Any = self.scope["extensions"]
            extensions[DIRECT] = self

    # Handing over

    async def run(self) -> int:
        ended = self.loop.create_future()
        self.hand_over(ended.set_result)
        return int(await ended)

    def hand_over(self, on_end: Callable[[int], None]) -> bool:
        """Read on the direct line from now on; what has come until now goes to the sink first."""
        self._on_end = on_end
        queue, self.queue = self.queue, _Events(self)  # type: ignore[assignment]
        self.writable = _WRITABLE  # type: ignore[assignment]
        del self.request, self.response  # a connection lives for hours, its handshake is over
        while not queue.empty():
            self.queue.put_nowait(queue.get_nowait())
        if not self.transport.is_closing():
            self.transport.set_write_buffer_limits(high=BUFFERED_BYTES)
        self._begin_direct_line()
        return True

    def end(self, code: int) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(code)

    async def run_asgi(self) -> None:
        """As uvicorn's, but a connection that was handed over goes on when this coroutine ends."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            logger.debug("The client left during its handshake")
        except Exception:
            logger.exception("The connection broke")
            self.send_500_response()
        if self._on_end is None and self.close_timer is None:
            self.transport.close()
        del self.scope

    # Writing

    def write(self, frame: bytes) -> None:
        if not self.disconnected and not self.close_sent:
            self.transport.write(_header(TEXT, len(frame)) + frame)

    def write_many(self, frames: Sequence[bytes]) -> None:
        if not self.disconnected and not self.close_sent:
            self.transport.write(_text_frames(tuple(frames)))

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._sink is not None:
            self._sink.on_writable()

    # Ending

    async def close(self, code: int) -> None:
        """Send the code; the client's own close frame ends the connection, or ten seconds do."""
        if self.close_sent or self.transport.is_closing():
            return
        self.resume_reading()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code})
        self._send_close(code, CLOSE_SECONDS)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)  # its buffer may never get empty


class _Events:
    """In the place of uvicorn's queue of ASGI events: passes them on to the sink at once."""

    def __init__(self, protocol: WebSocketProtocol) -> None:
        self._protocol = protocol

    def put_nowait(self, event: Any) -> None:
        if event["type"] == "websocket.receive":
            text = event.get("text")
            self._protocol._give(None if text is None else text.encode())
        elif event["type"] == "websocket.disconnect":
            self._protocol.end(int(event.get("code") or 1005))

    def empty(self) -> bool:
        return True


class _Writable:
    """In the place of uvicorn's event: the direct line asks `is_writable` instead."""

    def set(self) -> None: ...
    def clear(self) -> None: ...
    async def wait(self) -> None: ...


_WRITABLE = _Writable()


def _header(opcode: int, length: int) -> bytes:
    if length < 126:
        return bytes((opcode, length))
    if length < 65_536:
        return struct.pack("!BBH", opcode, 126, length)
    return struct.pack("!BBQ", opcode, 127, length)


@lru_cache(maxsize=8)  # many connections get the same frames, one after another
def _text_frames(frames: tuple[bytes, ...]) -> bytes:
    return b"".join([part for f in frames for part in (_header(TEXT, len(f)), f)])
