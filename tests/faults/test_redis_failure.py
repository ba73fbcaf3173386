"""Redis only wakes connections up: without it everything arrives, a little later."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.fault_report import note
from tests.faults.deployment import ROUNDS, Deployment
from tests.faults.reconnecting_client import ClientPairs

pytestmark = pytest.mark.faults


async def test_delivery_goes_on_when_redis_is_killed_flushed_or_frozen(deployment: Deployment) -> None:
    """The two of each pair are on different servers, so that every message crosses Redis."""
    servers = deployment.serve(2)
    pairs = ClientPairs.of(deployment, 8, lambda: 0, "redis")
    for number, client in enumerate(pairs.clients):
        client.choose_port = lambda port=servers[number % 2].port: port
    async with pairs.connected():
        for _ in range(ROUNDS):
            for fault in (_killed, _flushed, _frozen):
                async with pairs.writing(), pairs.beating():
                    await asyncio.sleep(0.3)
                    await fault(deployment)
                    await pairs.probe(within_seconds=5)
                await pairs.probe(within_seconds=5)
        assert {client.connects for client in pairs.clients} == {1}, "a socket died"
    found = pairs.report()
    note(
        "Redis killed, flushed, frozen",
        rounds=3 * ROUNDS,
        lost=len(found.lost),
        duplicated=len(found.duplicated),
    )
    found.must_be_clean()


async def _killed(deployment: Deployment) -> None:
    await asyncio.to_thread(deployment.redis.kill)
    await asyncio.sleep(1 if ROUNDS == 1 else 2)
    await asyncio.to_thread(deployment.redis.start)


async def _flushed(deployment: Deployment) -> None:
    import redis

    with redis.Redis.from_url(deployment.redis.url) as client:
        client.flushall()


async def _frozen(deployment: Deployment) -> None:
    deployment.redis.freeze()
    await asyncio.sleep(3 if ROUNDS == 1 else 20)
    deployment.redis.thaw()


async def test_messages_are_delivered_while_redis_is_frozen(deployment: Deployment) -> None:
    [server] = deployment.serve()
    pairs = ClientPairs.of(deployment, 3, lambda: server.port, "without-redis")
    async with pairs.connected():
        deployment.redis.freeze()
        await pairs.probe(within_seconds=5)
        async with server.phone("patient_123", "patient") as newcomer:
            assert newcomer.established["userId"] == "patient_123"
        began = time.monotonic()
        await asyncio.to_thread(server.terminate)
        assert time.monotonic() - began < pairs.load.seconds(10)
