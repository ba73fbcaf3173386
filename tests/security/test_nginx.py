"""nginx as the compose file starts it: slow clients are closed, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from hplus.realtime.models import Connection
from tests.fault_report import note
from tests.faults.deployment import ROUNDS
from tests.nginx import Nginx
from tests.phone import Phone
from tests.security.test_flooding import a_good_pair, calls_for_help
from tests.security.test_identity import sign_in
from tests.servers import ThreadServer
from tests.services import ServiceUnavailable

EACH = 40  # of every kind of slow client
SECONDS = {"client_header_timeout": 5, "client_body_timeout": 10}
PATIENCE = {name: seconds if ROUNDS > 1 else seconds / 5 for name, seconds in SECONDS.items()}
IN_THE_FILE = {f"{name} {SECONDS[name]}s": f"{name} {PATIENCE[name]:g}s" for name in SECONDS}
UPGRADE = (
    b"GET /?userId=slow&role=patient HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
BODY = b"POST /api/auth/token/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900\r\n\r\n{"


@pytest.fixture
def front(server: ThreadServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nginx]:
    """The proxy, in a short form with a fifth of its timeouts."""
    try:
        nginx = Nginx([server.port], IN_THE_FILE)
    except ServiceUnavailable as unavailable:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(unavailable))
    with nginx:
        monkeypatch.setenv("SSL_CERT_FILE", str(nginx.certificate))  # phones trust it
        yield nginx


@dataclass(frozen=True)
class Slow:
    """A client that begins and does not come to an end."""

    events: bytes
    drips: bytes = b""  # again and again, so that it never looks idle
    over_tls: bool = True
    tries: str = "client_header_timeout"

    async def lasts_seconds(self, front: Nginx) -> float:
        """Until the proxy closes it."""
        tls = front.trust if self.over_tls else None
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port, ssl=tls)
        begun = time.monotonic()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            writer.write(self.events)
            while not await _is_over(reader):
                writer.write(self.drips)
        writer.close()
        return time.monotonic() - begun


async def _is_over(reader: asyncio.StreamReader) -> bool:
    try:
        return not await asyncio.wait_for(reader.read(65536), 0.2)
    except TimeoutError:
        return False


SLOW = {
    "silent": Slow(b"", over_tls=False),
    "half a TLS handshake": Slow(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", over_tls=False),
    "half a header": Slow(UPGRADE),
    "a header without an end": Slow(UPGRADE, drips=b"X-Slow: 1\r\n"),
    "half a body": Slow(BODY, tries="client_body_timeout"),
}


@pytest.mark.faults
async def test_slow_clients_are_cut_off_and_others_are_unaffected(front: Nginx) -> None:
    """Two hundred at once, while two others talk and somebody comes to call for help."""
    async with a_good_pair(front) as took:
        lasted = asyncio.gather(
            *(slow.lasts_seconds(front) for slow in SLOW.values() for _ in range(EACH)),
        )
        await calls_for_help(front)
        seconds = await asyncio.wait_for(lasted, max(PATIENCE.values()) + 10)
    for number, (name, slow) in enumerate(SLOW.items()):
        longest = max(seconds[number * EACH : (number + 1) * EACH])
        is_cut = longest < PATIENCE[slow.tries] + 3
        note("slow handshakes and bodies", rounds=EACH, let_in=0 if is_cut else EACH)
        assert is_cut, f"{name} lasted {longest:.1f} s"
    assert sorted(took)[int(len(took) * 0.95)] < 1, max(took)
    cut = [line for line in front.log.read_text().splitlines() if '" 408 ' in line]
    assert len(cut) == EACH * sum(slow.over_tls for slow in SLOW.values())
    assert all(line.endswith(" - -") for line in cut), "a server behind the proxy was asked"


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
    async with httpx.AsyncClient(verify=front.trust) as client:
        assert (await client.get(f"{front.url}/health/live/", params={"token": token})).status_code == 200
        assert (await client.get(f"{front.url}/metrics")).status_code == 404
        plain = await client.get(f"http://127.0.0.1:{front.plain_port}/admin/?a=b")
        assert (plain.status_code, plain.headers["Location"]) == (301, "https://127.0.0.1/admin/?a=b")
        assert (await client.get(f"http://127.0.0.1:{server.port}/metrics")).status_code == 200
    log = front.log.read_text()
    assert '"GET /health/live/" 200' in log
    note("tokens in the log of the proxy", let_in=log.count(token))
    assert token not in log


async def test_flood_of_handshakes_from_one_address_is_limited(front: Nginx) -> None:
    """A flood of handshakes from one address: most wait at the proxy, and some get 429."""
    request = UPGRADE + b"\r\n"

    async def knock() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port, ssl=front.trust)
        writer.write(request)
        with contextlib.suppress(TimeoutError):
            answer = await asyncio.wait_for(reader.readline(), 1)
            return answer.split(b" ")[1] if answer else b"cut off"
        writer.transport.abort()
        return b"waits"

    heard = [await asyncio.gather(*(knock() for _ in range(130))) for _ in range(4)]
    answers = [answer for portion in heard for answer in portion]
    admit = answers.count(b"101")
    assert 60 <= admit < 60 + 20 * 10, admit
    assert answers.count(b"429") > 0
