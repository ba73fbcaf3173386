"""One server process: uvicorn with HPlus's protocols, and how it starts and ends."""

from __future__ import annotations

import gc
import os
import socket
import threading
from types import FrameType

import uvicorn

from hplus.operations import descriptors
from hplus.operations.http_protocol import HttpProtocol
from hplus.operations.websocket_protocol import WebSocketProtocol
from hplus.protocol.wire import MAX_MESSAGE_BYTES

SHUTDOWN_SECONDS = 9  # after SIGTERM; then the process exits, whatever still hangs
NOT_SENT_BYTES = 16 * 1024  # of a connection that the kernel takes ahead, so that what is urgent can overtake
# An idle HTTP connection stays open for longer than in the proxy before it (deploy/nginx.conf): a request
# sent while the server closes the connection would be answered 502.
KEEP_ALIVE_SECONDS = 75
TCP_USER_TIMEOUT_MS = 30_000  # the kernel drops a connection whose peer acknowledges nothing for so long


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
        ws_max_size=2 * MAX_MESSAGE_BYTES,  # of what the direct line does not read
        ws_per_message_deflate=False,
        ws_ping_interval=20,
        ws_ping_timeout=30,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=3,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        server_header=False,
    )


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on this address. Raises OSError where the port is taken."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT_BYTES)
    sock.bind((host, port))
    sock.listen(2048)
    return sock


def serve(listener: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    descriptors.raise_limit()
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
