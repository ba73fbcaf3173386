"""What is not UTF-8, or no form at all, is refused without a traceback in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from tests.api import Api
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS


def frame(opcode: int, payload: bytes) -> bytes:
    """A masked frame whose mask is zero."""
    return bytes((opcode, 0x80 | len(payload))) + bytes(4) + payload


FRAMES = {
    "text": frame(0x81, b"\xff\xfe"),
    "text within JSON": frame(0x81, b'{"type": "\xff"}'),
    "fragments": frame(0x01, b"\xff") + frame(0x80, b"\xfe"),
    "reason of a close": frame(0x88, b"\x03\xe8\xff\xfe"),
}
QUERIES = {"known": "?userId=patient_123&role=patient", "refused": "?userId=x&role=none", "login": ""}


def part(headers: bytes, body: bytes = b"x") -> bytes:
    return b"--b0undary\r\nContent-Disposition: form-data; " + headers + b"\r\n\r\n" + body + b"\r\n"


END = b"--b0undary--\r\n"
FORMS = {
    "field": part(b'name="chatRoomId"', b"\xff\xfe") + END,
    "name of a field": part(b'name="\xff"') + END,
    "name of a file": part(b'name="file"; filename="\xff\xfe.txt"') + END,
    "encoded name of a file": part(b"name=\"file\"; filename*=UTF-8''%ff%fe") + END,
    "unknown charset of a name": part(b"name=\"file\"; filename*=klingon''%41") + END,
    "unknown charset of a field": part(b'name="chatRoomId"\r\nContent-Type: text/plain; charset=klingon')
    + END,
    "no base64": part(b'name="file"; filename="a"\r\nContent-Transfer-Encoding: base64', b"!") + END,
    "no end": b"--b0undary\r\nContent-Disposition: form-data; name=",
    "too many fields": part(b'name="a"') * 2000 + END,
    "NUL": part(b'name="chatRoomId"', b"\0") + END,
    "neither form nor JSON": b"\xff\xfe{",
}
TYPES = {
    "form": "multipart/form-data; boundary=b0undary",
    "no boundary": "multipart/form-data",
    "odd boundary": "multipart/form-data; boundary=\xff",
    "unknown charset": "multipart/form-data; boundary=b0undary; charset=klingon",
    "JSON": "application/json; charset=klingon",
    "URL-encoded": "application/x-www-form-urlencoded; charset=klingon",
}
ADDRESSES = ["/api/chat/attachments/", "/api/auth/token/", "/api/notifications/read/", "/admin/login/"]


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    caplog.set_level(logging.INFO)
    yield caplog
    assert [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
@pytest.mark.parametrize("is_early", [True, False], ids=["with the handshake", "after it"])
async def test_frame_that_is_not_utf_8_ends_the_connection_without_a_traceback(
    server: ThreadServer, log: pytest.LogCaptureFixture, is_early: bool, query: str
) -> None:
    async def ended(sent: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        handshake = (
            f"GET /{query} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        ).encode()
        writer.write(handshake + (sent if is_early else b""))
        said = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        if not is_early:
            writer.write(sent)
        said += await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
        writer.close()
        return said

    for kind, said in zip(FRAMES, await asyncio.gather(*map(ended, FRAMES.values())), strict=True):
        assert said.startswith(b"HTTP/1.1 101"), kind
        assert b"\x03\xef" in said or query == QUERIES["refused"], kind  # 1007


@pytest.mark.parametrize("address", ADDRESSES)
async def test_unreadable_body_is_refused_without_a_traceback(
    server: ThreadServer, log: pytest.LogCaptureFixture, address: str
) -> None:
    async with Api(server, "patient_123") as http:
        for name, body in FORMS.items():
            for kind, content_type in TYPES.items():
                log.clear()
                headers = {"Content-Type": content_type.encode("latin-1")}
                got = await http.post(server.url + address, content=body, headers=headers)
                assert 400 <= got.status_code < 500, (name, kind, got.text)
                own = [record for record in log.records if record.name != "httpx"]
                assert len(own) <= 1, (name, kind, own)
