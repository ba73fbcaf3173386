"""One server process: uvicorn, with what HPlus needs of it beyond the ordinary."""

from __future__ import annotations

import gc
import os
import socket
import threading
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

END_WITHIN_SECONDS = 9  # after SIGTERM, whatever hangs
TCP_PATIENCE_MS = 30_000  # the kernel gives up on a reader that takes nothing for so long


class HttpProtocol(H11Protocol):
    """uvicorn's own, which would lose frames that come in one piece with the handshake."""

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        super().handle_websocket_upgrade(event)
        early, _ = self.conn.trailing_data
        protocol = self.transport.get_protocol()
        if early and isinstance(protocol, WebSocketProtocol):
            protocol.data_received(early)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's own, which would leave a client with a handshake too long to read waiting for ever."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(b"".join(self.conn.data_to_send()))  # 414 or 431
            self.transport.close()


class Server(uvicorn.Server):
    """On SIGTERM everything accepted is answered before the clients get their 1012."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Python waits for its threads, and one that asks a frozen database has no end: then without it."""
        last_resort = threading.Timer(END_WITHIN_SECONDS, os._exit, [1])
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
        ws_max_size=1024 * 1024,  # up to here a frame gets its MESSAGE_TOO_LARGE, beyond it 1009
        ws_per_message_deflate=False,
        ws_ping_interval=20,
        ws_ping_timeout=30,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=3,
        server_header=False,
    )


def listening_socket(host: str, port: int) -> socket.socket:
    """Raises OSError where the port is taken."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_PATIENCE_MS)
    sock.bind((host, port))
    sock.listen(2048)
    return sock


def serve(listener: socket.socket) -> None:
    """One server process, until SIGTERM or Ctrl-C."""
    settle_memory()
    try:
        Server(configuration()).run(sockets=[listener])
    except KeyboardInterrupt:
        return  # Ctrl-C, after a clean shutdown


def settle_memory() -> None:
    """What is loaded by now stays; to look through it for garbage costs a sixth of all CPU."""
    import hplus.asgi  # noqa: F401 everything a server needs

    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
