"""HPlus for a test: in a thread of this process, or as processes of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
from django.conf import settings
from django.db import connection
from django.db.models import F

from hplus.operations.serving import Server, configuration, listening_socket
from hplus.realtime.models import ServerProcess
from tests.phone import Phone
from tests.services import free_port
from tests.waiting import PATIENCE_SECONDS, until

ROOT = Path(__file__).resolve().parent.parent
PROMISED_SECONDS = 5  # until access that was taken away ends, and a lost wake-up is repaired
T = TypeVar("T")


class Endpoint:
    """Something that serves on a port."""

    port: int

    @property
    def pid(self) -> int:
        return os.getpid()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def phone(
        self,
        user_id: str,
        role: str,
        hospital_id: str | None = None,
        *,
        path: str = "",
        **query: Any,
    ) -> Phone:
        """A phone that says who it is in the query, as the guide's does; use it with `async with`."""
        return Phone(
            f"{self.socket_url}{path}",
            userId=user_id,
            role=role,
            hospitalId=hospital_id,
            **query,
        )


class ThreadServer(Endpoint):
    """A whole server in a thread: the same code as `manage.py serve`, on this test's database."""

    def __init__(self) -> None:
        listener = listening_socket("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self._server = Server(configuration())
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="server")

    def __enter__(self) -> ThreadServer:
        self._thread.start()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            assert time.monotonic() < deadline, "the server takes too long to start"
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive(), "the server does not stop"


class ProcessServer(Endpoint):
    """`manage.py serve` as a process that can be killed."""

    def __init__(self, port: int | None = None, *arguments: str, **environment: str) -> None:
        self.port = port or free_port()
        self.arguments = ("serve", "--port", str(self.port), "--host", "127.0.0.1", *arguments)
        self.environment = {**os.environ, "DATABASE_URL": database_url(), **environment}
        self.log = bytearray()
        self.process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self, *, wait: bool = True) -> ProcessServer:
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", *self.arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        threading.Thread(target=self._collect, args=(self.process,), daemon=True).start()
        if wait:
            self.wait_until_ready()
        return self

    def _collect(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.log.extend(line)

    def wait_until_ready(self, seconds: float = PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health/live/", timeout=PATIENCE_SECONDS).status_code == 200:
                    return
            assert self.process.poll() is None, self.log.decode()
            time.sleep(0.05)
        raise AssertionError(f"not ready: {self.log.decode()}")

    def kill(self) -> None:
        """As the kernel does it: at once, without a goodbye."""
        self.process.kill()
        self.process.wait()

    def terminate(self, seconds: float = PATIENCE_SECONDS) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def __enter__(self) -> ProcessServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def database_url() -> str:
    """Where the tests' database is, for another process."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    user, password = database["USER"], database["PASSWORD"]
    secret = f":{password}" if password else ""
    return f"postgres://{user}{secret}@{database['HOST']}:{database['PORT']}/{database['NAME']}"


async def has_reconciled(user_id: str) -> bool:
    """Whether the server of this user has compared itself with the database, and counted the others."""
    later = F("started_at") + timedelta(seconds=1)  # it was seen when it began, too
    seen = ServerProcess.objects.filter(connection__user=user_id, seen_at__gt=later)
    return await seen.aexists()


async def next_reconciliation(server: Endpoint) -> None:
    """Wait until this server has begun to compare itself with the database once more."""
    row = ServerProcess.objects.filter(pid=server.pid).order_by("-seen_at").values_list("seen_at", flat=True)
    before = await row.afirst()

    async def has_begun() -> bool:
        return await row.afirst() != before

    await until(has_begun)


async def reconciled(server: Endpoint, work: Awaitable[T]) -> T:
    """Return the result of what one reconciliation does. Fails where it is not done after two of them.

    RECONCILE_SECONDS lie between two, so this is the promise of five seconds by the server's own clock.
    """

    async def two_are_over() -> None:
        for _ in range(3):
            await next_reconciliation(server)

    assert 2 * settings.RECONCILE_SECONDS < PROMISED_SECONDS
    doing, clock = asyncio.ensure_future(work), asyncio.create_task(two_are_over())
    await asyncio.wait({doing, clock}, return_when=asyncio.FIRST_COMPLETED)
    clock.cancel()
    assert doing.done(), "two reconciliations are over, and it has not been done"
    return await doing


def several(count: int, *arguments: str) -> Iterator[ProcessServer]:
    """Server processes side by side on one database and one Redis."""
    with contextlib.ExitStack() as stack:
        started = [ProcessServer(None, *arguments).start(wait=False) for _ in range(count)]
        for server in started:
            stack.callback(server.__exit__)
        for server in started:
            server.wait_until_ready()
        yield from started
