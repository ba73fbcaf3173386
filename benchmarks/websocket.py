"""A WebSocket client that costs the load generator little: text frames over asyncio, and nothing else.

    client = await open_client(server.port, account, on_frame)
    client.send(b'{"type":"heartbeat"}')

It answers pings at once, as every library does, and accepts no extension.
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections.abc import Callable
from typing import Any, NamedTuple, cast
from urllib.parse import urlencode

import orjson

OPEN_SECONDS = 60
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
FINAL, MASKED = 0x80, 0x80
NO_MASK = bytes(4)  # a mask of zeros is allowed, and leaves the payload as it is (RFC 6455 §5.3)

OnFrame = Callable[[bytes], None]


class Account(NamedTuple):
    """Who connects, and the access token that proves it."""

    user_id: str
    role: str
    hospital_id: str
    token: str


class LoadClient(asyncio.Protocol):
    """One connection. `established` is the server's first frame; `on_frame` gets all later ones."""

    def __init__(self, request: bytes, on_frame: OnFrame) -> None:
        self._request, self.on_frame = request, on_frame
        self._rest = b""
        self._is_upgraded = False
        self._transport: asyncio.Transport
        loop = asyncio.get_running_loop()
        self.established: asyncio.Future[dict[str, Any]] = loop.create_future()
        self.closed: asyncio.Future[int] = loop.create_future()  # the close code; 1006 without one
        self._close_code = 1006

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no common class
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(self._close_code)
        if not self.established.done():
            self.established.set_exception(ConnectionError(f"closed with {self._close_code} ({exc})"))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        position = 0 if self._is_upgraded else self._read_upgrade(data)
        while (end := self._read_frame(data, position)) > position:
            position = end
        self._rest = data[position:]

    def _read_upgrade(self, data: bytes) -> int:
        """Where the frames begin; 0 while the response is not complete."""
        head, found, _ = data.partition(b"\r\n\r\n")
        if not found:
            return 0
        if not head.startswith(b"HTTP/1.1 101"):
            self.established.set_exception(ConnectionError(head.split(b"\r\n")[0].decode()))
            self._transport.abort()
        self._is_upgraded = True
        return len(head) + 4

    def _read_frame(self, data: bytes, position: int) -> int:
        """Take one frame. Returns where the next begins, or the same position where it is not complete."""
        start = position + 2
        if not self._is_upgraded or len(data) < start:
            return position
        length = data[position + 1]
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(data) < start + size:
                return position
            length = int.from_bytes(data[start : start + size])
            start += size
        if len(data) < start + length:
            return position
        self._take(data[position] & 0x0F, data[start : start + length])
        return start + length

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT and self.established.done():
            self.on_frame(payload)
        elif opcode == TEXT:
            self._greet(payload)
        elif opcode == PING:
            self._write(PONG, payload)
        elif opcode == CLOSE:
            self._close_code = int.from_bytes(payload[:2]) or 1005
            self._write(CLOSE, payload[:2])
            self._transport.close()

    def _greet(self, payload: bytes) -> None:
        frame = orjson.loads(payload)
        if frame["type"] == "connection_established":
            self.established.set_result(frame)
        else:
            self.established.set_exception(ConnectionError(payload.decode()))

    def send(self, text: bytes) -> None:
        self._write(TEXT, text)

    def _write(self, opcode: int, payload: bytes) -> None:
        length = len(payload)
        if length < 126:
            head = bytes((FINAL | opcode, MASKED | length))
        else:
            head = struct.pack("!BBH", FINAL | opcode, MASKED | 126, length)
        self._transport.write(head + NO_MASK + payload)

    async def close(self) -> None:
        """Close with 1000, and wait until the server has, too."""
        if not self.closed.done():
            self._write(CLOSE, struct.pack("!H", 1000))
        await self.closed

    def vanish(self) -> None:
        """As in a tunnel: the connection is gone without a close frame."""
        self._transport.abort()


async def open_client(port: int, account: Account, on_frame: OnFrame, **query: Any) -> LoadClient:
    """Connect and wait for the greeting. Raises ConnectionError, or TimeoutError after OPEN_SECONDS."""
    loop = asyncio.get_running_loop()
    request = _upgrade_request(port, account, query)
    async with asyncio.timeout(OPEN_SECONDS):
        _, client = await loop.create_connection(lambda: LoadClient(request, on_frame), "127.0.0.1", port)
        await client.established
    return client


def _upgrade_request(port: int, account: Account, query: dict[str, Any]) -> bytes:
    who = {
        "userId": account.user_id,
        "role": account.role,
        "hospitalId": account.hospital_id,
        "token": account.token,
    }
    lines = [
        f"GET /?{urlencode(who | query)} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def ignore(_: bytes) -> None:
    """For a client whose frames are of no interest."""
