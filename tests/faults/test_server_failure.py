"""A server is killed, stopped or replaced while everybody writes."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import time

import pytest

from tests.fault_report import note
from tests.faults.deployment import ROUNDS, Deployment
from tests.faults.proxy import Proxy
from tests.faults.reconnecting_client import ClientPairs

pytestmark = pytest.mark.faults
KILLS = 1 if ROUNDS == 1 else 2 * ROUNDS
ENDED = (0, -signal.SIGTERM)  # uvicorn passes the signal on when everything is done


async def test_nothing_acknowledged_is_lost_when_the_server_is_killed(deployment: Deployment) -> None:
    [server] = deployment.serve()
    pairs = ClientPairs.of(deployment, 10, lambda: server.port, "killed")
    async with pairs.connected():
        for _ in range(KILLS):
            async with pairs.writing():
                await asyncio.sleep(random.uniform(0.3, 1.0))
                server.kill()
                await asyncio.to_thread(server.start)
                await pairs.are_there()
            await pairs.probe(within_seconds=10)
    found = pairs.reckoning()
    note("server killed (-9)", rounds=KILLS, lost=len(found.lost), duplicated=len(found.duplicated))
    assert all(not phone.unrecovered for phone in pairs.phones)
    found.must_be_clean()


async def test_clients_of_a_killed_server_move_to_the_other_and_lose_nothing(deployment: Deployment) -> None:
    """Both servers write into the same rooms: the two of a pair sit on different ones."""
    servers = deployment.serve(2)
    pairs = ClientPairs.of(deployment, 8, lambda: 0, "moved")

    def sit(first: int) -> None:
        for number, phone in enumerate(pairs.phones):
            phone.where = itertools.cycle([servers[(number + first) % 2].port]).__next__

    sit(0)
    async with pairs.connected():
        for number in range(ROUNDS):
            dies, stays = servers[number % 2], servers[(number + 1) % 2]
            async with pairs.writing():
                await asyncio.sleep(1)
                dies.kill()
                for phone in pairs.phones:
                    phone.where = itertools.cycle([stays.port]).__next__
                await pairs.are_there()
                await asyncio.sleep(0.5)
            await pairs.probe(within_seconds=10)
            await asyncio.to_thread(dies.start)
    found = pairs.reckoning()
    note("one of two servers killed", rounds=ROUNDS, lost=len(found.lost), duplicated=len(found.duplicated))
    found.must_be_clean()


async def test_sigterm_answers_accepted_requests_and_closes_with_1012(deployment: Deployment) -> None:
    [server] = deployment.serve()
    pairs = ClientPairs.of(deployment, 10, lambda: server.port, "terminated")
    async with pairs.connected():
        for _ in range(ROUNDS):
            for phone in pairs.phones:
                phone.close_codes.clear()
            async with pairs.writing():
                await asyncio.sleep(0.5)
                begun = time.monotonic()
                assert await asyncio.to_thread(server.terminate) in ENDED
                assert time.monotonic() - begun < 10
                await asyncio.to_thread(server.start)
                await pairs.are_there()
            assert not sum(phone.answered_again for phone in pairs.phones), "accepted and unanswered"
            goodbyes = {phone.close_codes[0] for phone in pairs.phones}
            assert goodbyes <= {1001, 1012}, goodbyes
            await pairs.probe(within_seconds=10)
    found = pairs.reckoning()
    note("SIGTERM under load", rounds=ROUNDS, lost=len(found.lost), duplicated=len(found.duplicated))
    found.must_be_clean()


async def test_rolling_restart_loses_nothing(deployment: Deployment) -> None:
    servers = deployment.serve(2)
    async with Proxy([server.port for server in servers]) as proxy:
        pairs = ClientPairs.of(deployment, 8, lambda: proxy.port, "rolling")
        async with pairs.connected():
            for _ in range(ROUNDS):
                async with pairs.writing():
                    for server in servers:
                        assert await asyncio.to_thread(server.terminate) in ENDED
                        await asyncio.to_thread(server.start)
                        await pairs.are_there()
                await pairs.probe(within_seconds=10)
        assert not sum(phone.answered_again for phone in pairs.phones), "accepted and unanswered"
    found = pairs.reckoning()
    note(
        "rolling restart of two servers",
        rounds=ROUNDS,
        lost=len(found.lost),
        duplicated=len(found.duplicated),
    )
    found.must_be_clean()
