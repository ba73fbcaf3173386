"""Redis only wakes sockets up: without it everything arrives, a little later."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.faults.site import ROUNDS, Site
from tests.faults.steadfast import Crowd
from tests.ledger import note

pytestmark = pytest.mark.faults


async def test_no_socket_goes_deaf_when_redis_is_killed_flushed_or_frozen(site: Site) -> None:
    """The two of each pair sit on different servers, so that every word crosses Redis."""
    servers = site.serve(2)
    crowd = Crowd.of(site, 8, lambda: 0, "redis")
    for number, phone in enumerate(crowd.phones):
        phone.where = lambda port=servers[number % 2].port: port
    async with crowd.connected():
        for _ in range(ROUNDS):
            for fault in (_killed, _flushed, _frozen):
                async with crowd.writing(), crowd.beating():
                    await asyncio.sleep(0.3)
                    await fault(site)
                    await crowd.probe(within_seconds=5)
                await crowd.probe(within_seconds=5)
        assert {phone.connects for phone in crowd.phones} == {1}, "a socket died"
    found = crowd.reckoning()
    note(
        "Redis killed, flushed, frozen",
        rounds=3 * ROUNDS,
        lost=len(found.lost),
        duplicated=len(found.duplicated),
    )
    found.must_be_clean()


async def _killed(site: Site) -> None:
    await asyncio.to_thread(site.redis.kill)
    await asyncio.sleep(1 if ROUNDS == 1 else 2)
    await asyncio.to_thread(site.redis.start)


async def _flushed(site: Site) -> None:
    import redis

    with redis.Redis.from_url(site.redis.url) as client:
        client.flushall()


async def _frozen(site: Site) -> None:
    site.redis.freeze()
    await asyncio.sleep(3 if ROUNDS == 1 else 20)
    site.redis.thaw()


async def test_messages_arrive_while_redis_is_frozen(site: Site) -> None:
    [server] = site.serve()
    crowd = Crowd.of(site, 3, lambda: server.port, "without-redis")
    async with crowd.connected():
        site.redis.freeze()
        assert await crowd.probe(within_seconds=5) < 5
        async with server.phone("patient_123", "patient") as newcomer:
            assert newcomer.established["userId"] == "patient_123"
        begun = time.monotonic()
        await asyncio.to_thread(server.terminate)
        assert time.monotonic() - begun < 10
