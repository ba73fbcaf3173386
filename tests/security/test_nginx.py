"""nginx as the compose file starts it: slow clients are closed, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from hplus.realtime.models import Connection
from tests.fault_report import note
from tests.nginx import Nginx
from tests.phone import Phone
from tests.security.test_flooding import a_good_pair, calls_for_help
from tests.security.test_identity import sign_in
from tests.servers import ThreadServer
from tests.services import ServiceUnavailable
from tests.waiting import PATIENCE_SECONDS, until

EACH = 40  # of every kind of slow client
TIMEOUTS = ("client_header_timeout 5s", "client_body_timeout 10s")
FORBEARING = {line: f"{line.split()[0]} 10m" for line in TIMEOUTS}
IMPATIENT = {line: f"{line.split()[0]} 1s" for line in TIMEOUTS}
OF_ONE = {"rate=2r/s": "rate=1r/m"}
OF_AN_ADDRESS = {"rate=200r/s": "rate=1r/m", "burst=2000 delay=400": "burst=80 delay=60"}
UPGRADE = (
    b"GET /?userId=slow&role=patient HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
BODY = b"POST /api/auth/token/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900\r\n\r\n{"


@pytest.fixture
def start_front(server: ThreadServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Nginx]]:
    """Start the proxy in front of the server, with some lines of its file replaced."""
    with contextlib.ExitStack() as stack:

        def start(instead: dict[str, str] | None = None) -> Nginx:
            try:
                nginx = stack.enter_context(Nginx([server.port], instead))
            except ServiceUnavailable as unavailable:
                if os.environ.get("CI"):
                    raise
                pytest.skip(str(unavailable))
            monkeypatch.setenv("SSL_CERT_FILE", str(nginx.certificate))  # phones trust it
            return nginx

        yield start


@pytest.fixture
def front(start_front: Callable[..., Nginx]) -> Nginx:
    """The proxy without haste: a busy test is a slow client, too."""
    return start_front(FORBEARING)


@dataclass(frozen=True)
class Slow:
    """A client that begins and does not come to an end."""

    events: bytes
    drips: bytes = b""  # again and again, so that it never looks idle
    over_tls: bool = True

    async def begins(self, front: Nginx) -> asyncio.Task[None]:
        """Connect and begin; the task ends when the proxy has closed the connection."""
        tls = front.trust if self.over_tls else None
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port, ssl=tls)
        writer.write(self.events)
        return asyncio.create_task(self._goes_on(reader, writer))

    async def _goes_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, ssl.SSLError):
            while not await _is_over(reader):
                writer.write(self.drips)


async def _is_over(reader: asyncio.StreamReader) -> bool:
    try:
        return not await asyncio.wait_for(reader.read(65536), DRIP_SECONDS)
    except TimeoutError:
        return False


DRIP_SECONDS = 0.2
SLOW = {
    "silent": Slow(b"", over_tls=False),
    "half a TLS handshake": Slow(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", over_tls=False),
    "half a header": Slow(UPGRADE),
    "a header without an end": Slow(UPGRADE, drips=b"X-Slow: 1\r\n"),
    "half a body": Slow(BODY),
}


@contextlib.asynccontextmanager
async def slow_clients(front: Nginx) -> AsyncIterator[dict[str, list[asyncio.Task[None]]]]:
    """EACH of every kind, which have begun one after another."""
    slow = {name: [await kind.begins(front) for _ in range(EACH)] for name, kind in SLOW.items()}
    try:
        yield slow
    finally:
        for task in itertools.chain(*slow.values()):
            task.cancel()


@pytest.mark.faults
async def test_slow_clients_do_not_delay_others(front: Nginx) -> None:
    """None of two hundred has been closed while two others talk and somebody calls for help."""
    async with a_good_pair(front) as pair, slow_clients(front) as slow:
        await asyncio.gather(pair.exchanges(20), calls_for_help(front))
        assert not any(task.done() for task in itertools.chain(*slow.values()))


@pytest.mark.faults
async def test_slow_clients_are_cut_off(start_front: Callable[..., Nginx]) -> None:
    """However they go about it; without its timeouts nginx would wait a minute for each step."""
    front = start_front(IMPATIENT)
    async with slow_clients(front) as slow:
        await asyncio.wait(list(itertools.chain(*slow.values())), timeout=30)  # half of what nginx would wait
        left = {name: sum(not task.done() for task in tasks) for name, tasks in slow.items()}
    note("slow handshakes and bodies", rounds=EACH * len(slow), let_in=sum(left.values()))
    assert not any(left.values()), left

    def cut() -> list[str]:
        return [line for line in front.log.read_text().splitlines() if '" 408 ' in line]

    await until(lambda: len(cut()) == EACH * sum(kind.over_tls for kind in SLOW.values()))
    assert all(line.endswith(" - -") for line in cut()), "a server behind the proxy was asked"


async def test_proxy_adds_the_address_and_hides_metrics_and_tokens(
    front: Nginx, server: ThreadServer
) -> None:
    """TLS only, the true address, no page for Prometheus, no token in its log."""
    token = (await sign_in(server, "doctor_123"))["access"]
    who = {"userId": "doctor_123", "role": "doctor", "hospitalId": "hospital_001", "token": token}
    claims = {"X-Forwarded-For": "192.0.2.66", "Origin": front.url}
    async with Phone(f"wss://127.0.0.1:{front.port}", claims, **who):
        connection = await Connection.objects.aget(user="doctor_123")
        assert connection.address == "127.0.0.1"
    async with httpx.AsyncClient(verify=front.trust, timeout=PATIENCE_SECONDS) as client:
        assert (await client.get(f"{front.url}/health/live/", params={"token": token})).status_code == 200
        assert (await client.get(f"{front.url}/metrics")).status_code == 404
        plain = await client.get(f"http://127.0.0.1:{front.plain_port}/admin/?a=b")
        assert (plain.status_code, plain.headers["Location"]) == (301, "https://127.0.0.1/admin/?a=b")
        assert (await client.get(f"http://127.0.0.1:{server.port}/metrics")).status_code == 200
    log = front.log.read_text()
    assert '"GET /health/live/" 200' in log
    note("tokens in the log of the proxy", let_in=log.count(token))
    assert token not in log


async def knock(
    front: Nginx, claim: str = "userId=slow&role=patient", header: str = "X-Claim: none"
) -> bytes:
    """The status of a handshake; it may take a while where many wait before it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port, ssl=front.trust)
    with contextlib.closing(writer):
        request = UPGRADE.replace(b"userId=slow&role=patient", claim.encode())
        writer.write(request + header.encode() + b"\r\n\r\n")
        return (await reader.readline()).split(b" ")[1]


@contextlib.asynccontextmanager
async def flood(
    handshakes: Iterable[Coroutine[Any, Any, bytes]], answered: int
) -> AsyncIterator[list[asyncio.Task[bytes]]]:
    """All of these at once; the block begins when so many are answered, and the others wait at the proxy."""
    knocks = [asyncio.create_task(handshake) for handshake in handshakes]
    await until(lambda: sum(task.done() for task in knocks) >= answered)
    try:
        yield knocks
    finally:
        for task in knocks:
            task.cancel()


def answers_of(knocks: list[asyncio.Task[bytes]]) -> Counter[bytes]:
    return Counter(task.result() if task.done() else b"waits" for task in knocks)


WRONG = "userId=doctor_123&role=doctor&hospitalId=hospital_001"


@pytest.mark.parametrize(
    ("claim", "header"),
    [
        (f"{WRONG}&token=wrong", "X-Claim: none"),
        (WRONG, "Authorization: Bearer wrong"),
        ("role=doctor", "Cookie: sessionid=wrong"),
        ("role=patient", "X-Claim: none"),
    ],
    ids=["token", "header", "cookie", "nothing"],
)
async def test_device_that_hammers_delays_no_colleague_behind_the_same_address(
    start_front: Callable[..., Nginx], claim: str, header: str
) -> None:
    """Its next handshakes wait a minute each; a nurse and somebody who calls for help are in meanwhile."""
    front = start_front(OF_ONE | FORBEARING)
    token = (await sign_in(front, "nurse_001"))["access"]
    async with flood((knock(front, claim, header) for _ in range(61)), answered=41) as knocks:
        async with front.phone("nurse_001", "nurse", "hospital_001", token=token) as nurse:
            assert nurse.established["userId"] == "nurse_001"
        await calls_for_help(front)
        found = answers_of(knocks)
        reached = found.pop(b"101", 0) + found.pop(
            b"403", 0
        )  # HPlus tells twenty at once why, and closes others
        note("handshakes of a device with a wrong token", rounds=61, let_in=max(0, reached - 21))
        assert (reached, found) == (21, {b"429": 20, b"waits": 20})


async def test_flood_of_handshakes_from_one_address_is_limited(start_front: Callable[..., Nginx]) -> None:
    """Whoever it claims to be: the first 60 pass, some wait at the proxy, and the rest get 429."""
    front = start_front(OF_AN_ADDRESS | FORBEARING)
    claims = [f"userId=n{number}&role=patient&token=t{number}" for number in range(120)]
    async with flood((knock(front, claim) for claim in claims), answered=100) as knocks:
        assert answers_of(knocks) == {b"101": 61, b"429": 39, b"waits": 20}


async def test_handshakes_that_wait_at_the_proxy_are_admitted_in_turn(front: Nginx) -> None:
    """Each gets in, two a second: three more than pass at once take a second at least."""
    begun = time.monotonic()
    answers = await asyncio.gather(*(knock(front) for _ in range(23)))
    assert set(answers) == {b"101"}
    assert time.monotonic() - begun >= 0.95
