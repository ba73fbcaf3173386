"""Run HPlus: HTTP and WebSocket on one port, and the periodic jobs beside them."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from hplus.operations.readiness import (
    refuse_unless_ready,
    schema_fault,
    schema_fault_at_first,
    static_fault,
)
from hplus.operations.serving import listening_socket, serve

logger = logging.getLogger(__name__)
MOST_PROCESSES = 64


def up_to(most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from 1 to `most`."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 0 < int(text) <= most):
            raise ArgumentTypeError(f"must be a number from 1 to {most}, not {text!r}")
        return int(text)

    return read


class Command(BaseCommand):
    help = "Serve HTTP and WebSocket on one port."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--host",
            default="127.0.0.1",
            help="address to listen on (default: this machine's own; 0.0.0.0 for all, as in a container)",
        )
        parser.add_argument("--port", type=up_to(65535), default=settings.PORT, help="default: PORT, or 5000")
        parser.add_argument(
            "--workers", type=up_to(MOST_PROCESSES), default=1, help="server processes (default: 1)"
        )
        parser.add_argument(
            "--no-worker", action="store_true", help="leave the periodic jobs to `manage.py worker`"
        )
        parser.add_argument(
            "--prepare", action="store_true", help="first migrate and, in demo mode, add the demo's people"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["workers"] > 1 and not settings.REDIS_URL:
            raise CommandError("Several server processes reach each other through Redis: set REDIS_URL.")
        if options["no_worker"]:
            settings.HPLUS_WORKER_INSIDE = False
        if options["prepare"]:
            self._prepare()
        if static_fault():
            self._collect()
        refuse_unless_ready(schema_fault_at_first, static_fault)
        listener = self._listen(options["host"], options["port"])
        self._print_addresses(options["port"])
        if options["workers"] > 1:
            Supervisor(listener, options["workers"], settings.HPLUS_WORKER_INSIDE).run()
        else:
            serve(listener)
        self.stdout.write("HPlus has stopped.")

    def _collect(self) -> None:
        """Collect scripts and styles, where they may be written; else the check after this refuses."""
        try:
            call_command("collectstatic", interactive=False, verbosity=0)
        except OSError as unwritable:
            logger.warning("Scripts and styles could not be collected: %s", unwritable)

    def _prepare(self) -> None:
        """Migrate and seed in this process: starting Python three times would take longer than both."""
        if schema_fault():
            call_command("migrate", verbosity=0)
        if settings.HPLUS_DEMO:
            call_command("seed_demo", stdout=self.stdout)

    def _listen(self, host: str, port: int) -> socket.socket:
        try:
            return listening_socket(host, port)
        except OSError as taken:
            raise CommandError(
                f"{host} port {port} can't be used ({taken.strerror}). Choose another with --port or PORT."
            ) from None

    def _print_addresses(self, port: int) -> None:
        write = self.stdout.write
        write(f"HPlus listens on port {port}. Ctrl-C stops it.")
        if settings.HPLUS_DEMO:
            write(f"  socket  ws://localhost:{port}?userId=patient_123&role=patient")
            write(
                f"  admin   http://localhost:{port}/admin/  (root, admin_001, admin_002; password hplus-demo)"
            )
            write(f"  API     http://localhost:{port}/api/docs/")
            write(f"  health  http://localhost:{port}/health/")
        self.stdout.flush()


class Supervisor:
    """Runs several server processes on one listening socket, and restarts one that dies."""

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
        logger.warning("Server process %s ended with %s; it is restarted", dead.pid, dead.returncode)
        time.sleep(0.5)
        return self._start()
