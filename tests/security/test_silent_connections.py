"""Connections that do not finish a request have a time limit, are counted, and keep nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hplus.operations import awaited_requests, descriptors
from hplus.operations.doctor.configuration import about_descriptors
from hplus.operations.http_protocol import is_proxy
from tests.api import Api
from tests.realtime.test_metrics import figures
from tests.security.test_flooding import calls_for_help
from tests.servers import Endpoint, ProcessServer, ThreadServer
from tests.waiting import PATIENCE_SECONDS, until

ROOT = Path(__file__).resolve().parents[2]
HALF = b"GET /health/live/ HTTP/1.1\r\nHost: 127"
REST = b".0.0.1\r\n\r\n"
HALF_BODY = b"POST /api/auth/token/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000\r\n\r\n{"
HALF_HANDSHAKE = (
    b"GET /?userId=patient_123&role=patient HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
)


class TcpClient:
    """A TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ended(self) -> bytes:
        """Everything that the server sends until it closes the connection."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            with contextlib.suppress(ConnectionResetError):
                return await self.reader.read(-1)
        return b""


@contextlib.asynccontextmanager
async def connection_to(server: Endpoint, data: bytes = b"") -> AsyncIterator[TcpClient]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(data)
        yield TcpClient(reader, writer)
    finally:
        writer.close()


@pytest.fixture
def impatient(settings: Any) -> None:
    """To be named before `server`."""
    settings.REQUEST_SECONDS, settings.BODY_SECONDS = 0.5, 0.5


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"", b""),
        (HALF, b"408"),
        (HALF_HANDSHAKE, b"408"),
        (HALF_BODY, b"408"),
        (HALF + REST + HALF, b"200"),
        (b"POST /api/auth/token/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{", b"408"),
    ],
    ids=[
        "nothing",
        "half a head",
        "half a handshake",
        "half a body",
        "half a second request",
        "half a chunk",
    ],
)
async def test_request_that_is_not_finished_in_time_ends_its_connection(
    impatient: None, server: ThreadServer, data: bytes, answer: bytes
) -> None:
    async with connection_to(server, data) as client:
        assert (await client.ended())[9:12] == answer


async def test_drip_does_not_prolong_the_time_for_a_head_or_a_body(
    impatient: None, server: ThreadServer
) -> None:
    for begun in (HALF, HALF_BODY):
        async with connection_to(server, begun) as client:
            ending = asyncio.create_task(client.ended())
            while not ending.done():
                client.writer.write(b"1")
                await asyncio.sleep(0.05)
            assert (await ending)[9:12] == b"408"


async def test_slow_body_that_goes_on_is_read_to_its_end(
    impatient: None, server: ThreadServer, settings: Any
) -> None:
    """It takes several times as long as a client may be silent."""
    settings.BODY_BYTES, settings.BODY_SECONDS = 10, 1
    head = b"POST /api/auth/token/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 900\r\n\r\n"
    async with connection_to(server, head) as client:
        for _ in range(9):
            client.writer.write(b" " * 100)
            await asyncio.sleep(0.3)
        assert (await client.ended())[9:12] == b"415"  # the whole request was answered


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """To be named before `server`: this machine is a client like any other."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "192.0.2.1")


@pytest.mark.parametrize(
    ("address", "trusted", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("10.1.2.3", "127.0.0.1, 10.0.0.0/8", True),
        ("10.1.2.3", "*", True),
        ("192.0.2.7", "127.0.0.1,10.0.0.0/8,::1,/run/proxy", False),
        ("", "127.0.0.1", False),
    ],
)
def test_address_of_a_trusted_proxy_is_shared_by_many(address: str, trusted: str, expected: bool) -> None:
    assert is_proxy(address, trusted) is expected


async def test_idle_connection_after_an_answer_is_not_awaited(
    no_proxy: None, server: ThreadServer, settings: Any
) -> None:
    settings.AWAITED_REQUESTS_PER_ADDRESS = 0
    async with Api(server) as api:
        for _ in range(3):
            assert (await api.get("chat/rooms/")).status_code == 401
    async with server.phone("patient_123", "patient") as phone:
        await phone.echo()
        await until(lambda: figures(server)["hplus_awaited_requests"] <= 1)  # that of the question itself


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("AWAITED_REQUESTS_PER_ADDRESS", "too many silent connections of one address"),
        ("AWAITED_REQUESTS", "too many silent connections"),
    ],
)
async def test_oldest_of_too_many_silent_connections_give_way(
    no_proxy: None,
    server: ThreadServer,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    reason: str,
) -> None:
    monkeypatch.setattr(awaited_requests, "GRACE_SECONDS", 0)
    setattr(settings, limit, 5)
    settings.REQUEST_SECONDS = 10 * PATIENCE_SECONDS
    name = f'hplus_connections_cut_total{{reason="{reason}"}}'
    before = figures(server).get(name, 0)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connection_to(server, HALF)) for _ in range(8)]
        for oldest in clients[:3]:
            assert (await oldest.ended())[9:12] in (b"408", b"")
        await calls_for_help(server)
        for newest in clients[-4:]:
            newest.writer.write(REST)
            assert (await newest.reader.readline())[9:12] == b"200"
    assert figures(server)[name] - before >= 3


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """What is started meanwhile begins with a soft limit below the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1000, hard - 1), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.faults
async def test_more_silent_connections_than_descriptors_keep_nobody_out(
    users: object, few_descriptors: None
) -> None:
    with ProcessServer() as server:
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        assert soft == hard > 1000
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (256, hard))
        async with contextlib.AsyncExitStack() as stack:
            for data in (b"", HALF):
                for _ in range(200):
                    await stack.enter_async_context(connection_to(server, data))
            await calls_for_help(server)
            found = figures(server)  # type: ignore[arg-type]
            assert found['hplus_connections_cut_total{reason="file descriptors are scarce"}'] > 200
            assert b"file descriptors are scarce" in server.log
            assert b"Too many open files" not in server.log


@pytest.mark.parametrize(("hard", "status"), [(1024, "warning"), (65_536, "ok")])
def test_doctor_says_how_many_connections_are_possible(
    monkeypatch: pytest.MonkeyPatch, hard: int, status: str
) -> None:
    monkeypatch.setattr(descriptors, "limits", lambda: (1024, hard))
    finding = about_descriptors()
    assert finding.status == status
    assert f"allow {hard - descriptors.RESERVED} connections" in finding.message


def test_compose_gives_each_server_descriptors_for_its_connections() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name in ("server-1", "server-2", "nginx"):
        assert services[name]["ulimits"]["nofile"] >= 65_536
