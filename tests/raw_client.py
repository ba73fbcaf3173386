"""A WebSocket client of a few lines, which can break every rule."""

from __future__ import annotations

import asyncio
import json
import os
import struct
from collections.abc import Callable

from tests.servers import Endpoint
from tests.waiting import PATIENCE_SECONDS

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
Received = tuple[int, bytes]  # opcode and payload


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """A client's frame: masked."""
    mask, head = os.urandom(4), bytes([opcode | (0x80 if fin else 0)])
    if len(payload) < 126:
        length = bytes([0x80 | len(payload)])
    elif len(payload) < 65_536:
        length = struct.pack("!BH", 0x80 | 126, len(payload))
    else:
        length = struct.pack("!BQ", 0x80 | 127, len(payload))
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload) ^ int.from_bytes(key)
    return head + length + mask + masked.to_bytes(len(payload))


class RawClient:
    """Holds one connection; frames are written and read as they are."""

    def __init__(self, server: Endpoint, query: str = "userId=patient_123&role=patient") -> None:
        self._port, self._query = server.port, query

    async def __aenter__(self) -> RawClient:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def upgrade(self, more: bytes = b"") -> None:
        request = (
            f"GET /?{self._query} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n"
        )
        self.writer.write(request.encode() + more)
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head

    async def greeted(self) -> RawClient:
        """Shake hands, and read `connection_established`."""
        await self.upgrade()
        await self.expect(lambda got: b"connection_established" in got[1])
        return self

    async def receive(self) -> Received:
        first, length = await self.reader.readexactly(2)
        if length == 126:
            [length] = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            [length] = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 0x0F, await self.reader.readexactly(length)

    async def expect(self, fits: Callable[[Received], bool]) -> Received:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not fits(received := await self.receive()):
                pass
        return received

    async def expect_heartbeat(self, mark: str) -> None:
        await self.expect(lambda got: got[0] == TEXT and json.loads(got[1]).get("timestamp") == mark)

    async def expect_close(self) -> int:
        _, payload = await self.expect(lambda got: got[0] == CLOSE)
        return int.from_bytes(payload[:2])

    async def write_until_ended(self, data: bytes) -> None:
        """Write this again and again, as fast as the server reads, until the connection has ended."""
        try:
            while not self.reader.at_eof():
                self.writer.write(data)
                await self.writer.drain()
        except OSError:
            return
