"""Run HPlus: HTTP and sockets on one port, and the duties beside them."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import uvicorn
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

logger = logging.getLogger(__name__)
END_WITHIN_SECONDS = 9  # after SIGTERM, whatever hangs
MOST_PROCESSES = 64
TCP_PATIENCE_MS = 30_000  # the kernel gives up on a reader that takes nothing for so long


def up_to(most: int) -> Callable[[str], int]:
    """Reads a whole number from 1 on."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 0 < int(text) <= most):
            raise ArgumentTypeError(f"must be a number from 1 to {most}, not {text!r}")
        return int(text)

    return read


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
        from hplus.asgi import application

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
    """Raises CommandError where the port is taken."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_PATIENCE_MS)
    try:
        sock.bind((host, port))
    except OSError as taken:
        raise CommandError(
            f"{host} port {port} can't be used ({taken.strerror}). Choose another with --port or PORT."
        ) from None
    sock.listen(2048)
    return sock


class Command(BaseCommand):
    help = "Serve HTTP and WebSocket on one port."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all)")
        parser.add_argument("--port", type=up_to(65535), default=settings.PORT, help="default: PORT, or 5000")
        parser.add_argument(
            "--workers", type=up_to(MOST_PROCESSES), default=1, help="server processes (default: 1)"
        )
        parser.add_argument("--no-worker", action="store_true", help="leave the duties to `manage.py worker`")
        parser.add_argument(
            "--prepare", action="store_true", help="first migrate and, in demo mode, add the demo's people"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["workers"] > 1 and not settings.REDIS_URL:
            raise CommandError("Several server processes hear each other through Redis: set REDIS_URL.")
        if options["no_worker"]:
            settings.HPLUS_WORKER_INSIDE = False
        if options["prepare"]:
            self._prepare()
        listener = listening_socket(options["host"], options["port"])
        self._say_where(options["port"])
        if options["workers"] > 1:
            Supervisor(listener, options["workers"], settings.HPLUS_WORKER_INSIDE).run()
        else:
            serve(listener)
        self.stdout.write("HPlus has stopped.")

    def _prepare(self) -> None:
        """In this process, because to start Python three times takes longer than all else together."""
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            call_command("migrate", verbosity=0)
        if settings.HPLUS_DEMO:
            call_command("seed_demo", stdout=self.stdout)

    def _say_where(self, port: int) -> None:
        say = self.stdout.write
        say(f"HPlus listens on port {port}. Ctrl-C stops it.")
        if settings.HPLUS_DEMO:
            say(f"  socket  ws://localhost:{port}?userId=patient_123&role=patient")
            say(
                f"  admin   http://localhost:{port}/admin/  (root, admin_001, admin_002; password hplus-demo)"
            )
            say(f"  API     http://localhost:{port}/api/docs/")
            say(f"  health  http://localhost:{port}/health/")
        self.stdout.flush()


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


class Supervisor:
    """Several server processes on one listening socket; one that dies is started again."""

    def __init__(self, listener: socket.socket, count: int, with_worker: bool) -> None:
        self.listener, self.count = listener, count
        self.environment = {**os.environ, "HPLUS_WORKER_INSIDE": "1" if with_worker else "0"}
        self.processes: list[subprocess.Popen[bytes]] = []
        self.is_stopping = False

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "is_stopping", True))
        self.processes = [self._start() for _ in range(self.count)]
        while not self.is_stopping:
            time.sleep(0.2)
            self.processes = [p if p.poll() is None else self._restart(p) for p in self.processes]
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        number = self.listener.fileno()
        command = [sys.executable, sys.argv[0], "serve_one", str(number)]
        return subprocess.Popen(command, env=self.environment, pass_fds=[number], start_new_session=True)

    def _restart(self, dead: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        logger.warning("Server process %s ended with %s; another takes its place", dead.pid, dead.returncode)
        time.sleep(0.5)
        return self._start()
