"""Bytes and frames that no honest client sends: they cost the sender, not the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psutil
import pytest

from tests.fault_report import note
from tests.raw_client import TEXT, RawClient, frame
from tests.security.test_flooding import a_good_pair, calls_for_help
from tests.servers import Endpoint, ProcessServer

MIB = 1024 * 1024
BOUND_BYTES = 64 * MIB
FLOODERS, FRAMES = 15, 300  # of 63 KB each


def long_frame(lists: int) -> bytes:
    """A frame of 63 KB with so many empty lists under a key that nobody knows."""
    padding = b"[" + b"[]," * lists + b'"%b"]' % (b"x" * (63_000 - 3 * lists))
    return frame(TEXT, b'{"type":"joinHospital","hospitalId":"hospital_001","padding":%b}' % padding)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("lists", "per_minute"),
    [(20_900, "600"), (3_900, "600"), (3_900, "0")],
    ids=["too many values", "many values", "many values without a rate limit"],
)
async def test_legal_frames_of_one_account_fill_no_memory(users: object, lists: int, per_minute: str) -> None:
    with ProcessServer(HPLUS_MESSAGES_PER_MINUTE=per_minute) as server:
        process = psutil.Process(server.pid)
        async with a_good_pair(server) as pair:
            await pair.exchanges(5)
            before = process.memory_info().rss
            async with several_flood(server, long_frame(lists)):
                for _ in range(5):
                    await pair.exchanges(10)
                    assert process.memory_info().rss - before < BOUND_BYTES
                await calls_for_help(server)
            await pair.exchanges(5)
            assert process.memory_info().rss - before < BOUND_BYTES
    note("one account sends 283 MB of legal frames", lost=0)


@contextlib.asynccontextmanager
async def several_flood(server: Endpoint, data: bytes) -> AsyncIterator[None]:
    """Several connections of one account send this again and again, and read what comes back."""
    async with contextlib.AsyncExitStack() as stack:
        floods = []
        for _ in range(FLOODERS):
            client = await stack.enter_async_context(RawClient(server, "userId=flooder&role=patient"))
            floods.append(asyncio.create_task(flood(await client.greeted(), data)))
        try:
            yield
        finally:
            for one in floods:
                one.cancel()


async def flood(client: RawClient, data: bytes) -> None:
    reading = asyncio.create_task(client.reader.read(-1))
    with contextlib.suppress(OSError):
        for _ in range(FRAMES):
            client.writer.write(data)
            await client.writer.drain()
        await reading
