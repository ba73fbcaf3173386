"""Redis only wakes connections up: without it everything arrives, a little later."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import redis

from tests.fault_report import note
from tests.faults.deployment import ROUNDS, Deployment
from tests.faults.reconnecting_client import ClientPairs

pytestmark = pytest.mark.faults


async def test_delivery_goes_on_when_redis_is_killed_flushed_or_frozen(deployment: Deployment) -> None:
    """Also while it is away. The two of a pair are on different servers: every message crosses Redis."""
    servers = deployment.serve(2)
    pairs = ClientPairs.of(deployment, 8, lambda: 0, "redis")
    for number, client in enumerate(pairs.clients):
        client.choose_port = lambda port=servers[number % 2].port: port
    async with pairs.connected():
        for _ in range(ROUNDS):
            for fault in (_killed, _flushed, _frozen):
                async with pairs.writing(), pairs.beating():
                    await pairs.acknowledged(3)
                    async with fault(deployment):
                        await pairs.probe()
                    await pairs.probe()
                await pairs.probe()
        assert {client.connects for client in pairs.clients} == {1}, "a socket died"
    found = pairs.report()
    note(
        "Redis killed, flushed, frozen",
        rounds=3 * ROUNDS,
        lost=len(found.lost),
        duplicated=len(found.duplicated),
    )
    found.must_be_clean()


@contextlib.asynccontextmanager
async def _killed(deployment: Deployment) -> AsyncIterator[None]:
    await asyncio.to_thread(deployment.redis.kill)
    yield
    await asyncio.to_thread(deployment.redis.start)


@contextlib.asynccontextmanager
async def _flushed(deployment: Deployment) -> AsyncIterator[None]:
    with redis.Redis.from_url(deployment.redis.url) as client:
        client.flushall()
    yield


@contextlib.asynccontextmanager
async def _frozen(deployment: Deployment) -> AsyncIterator[None]:
    deployment.redis.freeze()
    yield
    if ROUNDS > 1:
        await asyncio.sleep(20)  # longer than any timeout
    deployment.redis.thaw()


async def test_messages_are_delivered_while_redis_is_frozen(deployment: Deployment) -> None:
    """Clients connect, and the server ends, without Redis."""
    [server] = deployment.serve()
    pairs = ClientPairs.of(deployment, 3, lambda: server.port, "without-redis")
    async with pairs.connected():
        deployment.redis.freeze()
        await pairs.probe()
        async with server.phone("patient_123", "patient") as newcomer:
            assert newcomer.established["userId"] == "patient_123"
        await asyncio.to_thread(server.terminate)
