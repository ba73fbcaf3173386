"""The servers that are measured, as processes of their own, and what they use."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from benchmarks.storage import Storage
from tests.services import free_port

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / "benchmarks" / "peer"
READY_SECONDS = 60
STOP_SECONDS = 20


class PeerUnavailable(Exception):
    """There is no peer on this machine; the message says why and what would help."""


@dataclass
class Server:
    """A server process that can be started again on the same port."""

    name: str
    command: list[str]
    environment: dict[str, str]
    health_path: str
    directory: Path = ROOT
    port: int = field(default_factory=free_port)
    are_all_there: Callable[[], bool] = lambda: True  # where it is several processes
    process: subprocess.Popen[bytes] | None = None
    log: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Server:
        """Start it, and return when it answers. Raises RuntimeError where it does not."""
        environment = os.environ | self.environment | {"PORT": str(self.port)}
        self.process = subprocess.Popen(
            self.command, cwd=self.directory, env=environment, stdout=self.log, stderr=self.log
        )
        deadline = time.monotonic() + READY_SECONDS
        while not (self._answers() and self.are_all_there()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} did not start:\n{self.logged()[-2000:]}")
            time.sleep(0.05)
        return self

    def logged(self) -> str:
        """What it has written to its log so far."""
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), size, 0).decode(errors="replace")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self.health_path}", timeout=5):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    def memory_kib(self) -> float:
        """Resident memory of the process."""
        return psutil.Process(self.pid).memory_info().rss / 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its descendants so far, also of those that have ended."""
    root = psutil.Process(pid)
    spent = root.cpu_times()
    total = spent.user + spent.system + spent.children_user + spent.children_system
    for child in root.children(recursive=True):
        try:
            spent = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += spent.user + spent.system + spent.children_user + spent.children_system
    return float(total)


def hplus(storage: Storage, workers: int = 1) -> Server:
    """`manage.py serve` in production settings."""
    command = [sys.executable, "manage.py", "serve", "--host", "127.0.0.1", "--workers", str(workers)]

    def are_all_there() -> bool:
        [[registered]] = storage.execute("hplus", "SELECT count(*) FROM realtime_serverprocess")
        return bool(registered >= workers)

    return Server(
        "HPlus", command, storage.environment("hplus"), "/health/live/", are_all_there=are_all_there
    )


def peer(storage: Storage) -> Server:
    """The server in Node.js. Raises PeerUnavailable."""
    node = shutil.which("node")
    if node is None:
        raise PeerUnavailable("Node.js is not installed, so HPlus is measured alone.")
    if not (PEER / "node_modules").is_dir():
        _install_packages()
    return Server("Node.js", [node, "server.js"], storage.environment("peer"), "/", directory=PEER)


def _install_packages() -> None:
    npm = shutil.which("npm")
    install = [npm or "npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
    if npm is None or subprocess.run(install, cwd=PEER, capture_output=True).returncode:
        shutil.rmtree(PEER / "node_modules", ignore_errors=True)  # a part of them would look like all
        raise PeerUnavailable(
            "The peer's npm packages are missing and could not be installed (npm install in benchmarks/peer),"
            " so HPlus is measured alone."
        )
