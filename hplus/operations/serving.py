"""One server process: uvicorn, and the places where HPlus needs another behaviour of it."""

from __future__ import annotations

import gc
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request

from hplus.realtime.connection.transport import CLOSE_SECONDS, DIRECT, Sink

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the compiled part
    from websockets.utils import apply_mask

logger = logging.getLogger(__name__)
SHUTDOWN_SECONDS = 9  # after SIGTERM; then the process exits, whatever still hangs
# An idle HTTP connection stays open for longer than in the proxy before it (deploy/nginx.conf): a request
# sent while the server closes the connection would be answered 502.
KEEP_ALIVE_SECONDS = 75
TCP_USER_TIMEOUT_MS = 30_000  # the kernel drops a connection whose peer acknowledges nothing for so long

# First bytes of whole frames (RFC 6455 §5.2), and the mask bit that stands above the length.
TEXT, PING, PONG = 0x81, 0x89, 0x8A
MASKED = 0x80


class HttpProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which would lose frames that arrive in one piece with the handshake."""

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        super().handle_websocket_upgrade(event)
        early, _ = self.conn.trailing_data
        protocol = self.transport.get_protocol()
        if early and isinstance(protocol, WebSocketProtocol):
            protocol.data_received(early)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's own, with a direct line for frames once the handshake is over.

    uvicorn carries each frame through a queue and a task, and stops and starts reading for it. On the direct
    line (`hplus.realtime.connection.transport`) a whole text frame goes from `data_received` to the sink and
    from `write` to the transport; everything else (fragments, close, what breaks the protocol) is left to
    the library. It also ends a handshake too long to read, which uvicorn would leave waiting for ever.
    """

    _sink: Sink | None = None
    _is_plain = False  # the direct line reads; else the library is in the middle of something
    _rest = b""  # the beginning of a frame on the direct line
    _is_paused = False  # the sink has enough to do
    is_writable = True  # the transport's buffer is under its high-water mark
    _on_end: Callable[[int], None] | None = None
    _is_direct = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._boundary = FrameBoundary()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions: Any = self.scope["extensions"]
            extensions[DIRECT] = self

    def data_received(self, data: bytes) -> None:
        if self._is_plain:
            self._read_frames(self._rest + data if self._rest else data)
            return
        self._read_by_library(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(b"".join(self.conn.data_to_send()))  # 414 or 431
            self.transport.close()

    # Reading

    def _read_by_library(self, data: bytes) -> None:
        if self.handshake_initiated:
            self._boundary.feed(data)
        super().data_received(data)
        self._is_plain = self._is_direct and self._library_is_idle

    @property
    def _library_is_idle(self) -> bool:
        """Whether it has read whole messages only."""
        return self._boundary.is_reached and not self.frames

    def attach(self, sink: Sink) -> None:
        self._sink = sink

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
        self._is_direct, self._is_plain = True, self._library_is_idle
        if self.read_paused and not self._is_paused:
            self.transport.resume_reading()
        self.read_paused = True  # so that uvicorn does not stop reading after each frame
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

    def _read_frames(self, data: bytes) -> None:
        position, end, self._rest = 0, len(data), b""
        while end - position >= 6:
            opcode, length = data[position], data[position + 1] - MASKED
            start = position + 6
            if length == 126 and end - position >= 8:
                length = data[position + 2] << 8 | data[position + 3]
                start += 2
            elif length == 126:
                break
            if length < 0 or length == 127 or opcode not in (TEXT, PING, PONG):
                self._read_by_library(data[position:])
                return
            if end < start + length:
                break
            payload = apply_mask(data[start : start + length], data[start - 4 : start])
            position = start + length
            if not self._take(opcode, payload):
                return
        self._rest = data[position:]

    def _take(self, opcode: int, payload: bytes) -> bool:
        """Returns False where the connection has ended."""
        if opcode == PONG:
            self.handle_pong(Frame(Opcode.PONG, payload))
        elif opcode == PING:
            self.transport.write(_header(PONG, len(payload)) + payload)
        elif not self.close_sent:
            self._give(payload)
        return not self.disconnected and not self.transport.is_closing()

    def _give(self, message: bytes | None) -> None:
        assert self._sink is not None
        try:
            wants_more = self._sink.take(message)
        except UnicodeDecodeError:
            self.conn.send_close(1007)
            self.handle_parser_exception()
            return
        if not wants_more and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    # Writing

    def write(self, frame: bytes) -> None:
        if not self.disconnected and not self.close_sent:
            self.transport.write(_header(TEXT, len(frame)) + frame)

    def write_many(self, frames: Sequence[bytes]) -> None:
        if not self.disconnected and not self.close_sent:
            self.transport.write(_text_frames(tuple(frames)))

    def pause_writing(self) -> None:
        super().pause_writing()
        self.is_writable = False

    def resume_writing(self) -> None:
        super().resume_writing()
        self.is_writable = True
        if self._sink is not None:
            self._sink.on_writable()

    async def close(self, code: int) -> None:
        """Send the code; the client's own close frame ends the connection, or ten seconds do."""
        if self.close_sent or self.transport.is_closing():
            return
        self.resume_reading()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code})
        self.conn.send_close(code)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._rest = b""


class FrameBoundary:
    """Follows a stream of WebSocket frames, to know whether it stands between two of them."""

    __slots__ = ("_head", "_payload")

    def __init__(self) -> None:
        self._head, self._payload = b"", 0  # of a header what has come, of a payload what is still to come

    def feed(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            if self._payload:
                taken = min(self._payload, len(data) - position)
                self._payload -= taken
            else:
                taken = 1
                self._read_head(data[position : position + 1])
            position += taken

    def _read_head(self, byte: bytes) -> None:
        self._head += byte
        if len(self._head) < 2:
            return
        code = self._head[1] & 0x7F
        extended = {126: 2, 127: 8}.get(code, 0)
        masked = 4 if self._head[1] & MASKED else 0
        if len(self._head) == 2 + extended + masked:
            self._payload = int.from_bytes(self._head[2 : 2 + extended]) if extended else code
            self._head = b""

    @property
    def is_reached(self) -> bool:
        return not self._head and not self._payload


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


@lru_cache(maxsize=8)  # many connections get the same frames, one after another
def _text_frames(frames: tuple[bytes, ...]) -> bytes:
    return b"".join([part for f in frames for part in (_header(TEXT, len(f)), f)])


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


class Server(uvicorn.Server):
    """uvicorn's server. On SIGTERM it answers every accepted frame, then closes connections with 1012."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Shut down; exit after SHUTDOWN_SECONDS, because a thread on a frozen database never ends."""
        last_resort = threading.Timer(SHUTDOWN_SECONDS, os._exit, [1])
        last_resort.daemon = True
        last_resort.start()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        from hplus.asgi import application  # not before Django is set up

        for server in self.servers:
            server.close()
        await application.stop()
        await super().shutdown(sockets)


def configuration() -> uvicorn.Config:
    return uvicorn.Config(
        "hplus.asgi:application",
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=1024 * 1024,  # a longer frame closes with 1009, a shorter one gets MESSAGE_TOO_LARGE
        ws_per_message_deflate=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ws_ping_interval=20,
        ws_ping_timeout=30,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=3,
        server_header=False,
    )


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on this address. Raises OSError where the port is taken."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
    sock.bind((host, port))
    sock.listen(2048)
    return sock


def serve(listener: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    freeze_garbage_collector()
    try:
        Server(configuration()).run(sockets=[listener])
    except KeyboardInterrupt:
        return  # Ctrl-C, after a clean shutdown


def freeze_garbage_collector() -> None:
    """Exempt everything loaded so far from garbage collection, which else costs a sixth of all CPU."""
    import hplus.asgi  # noqa: F401 everything a server needs

    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
