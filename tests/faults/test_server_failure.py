"""A server is killed, stopped or replaced while everybody writes."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal

import pytest

from tests.fault_report import note
from tests.faults.deployment import ROUNDS, Deployment
from tests.faults.proxy import Proxy
from tests.faults.reconnecting_client import ClientPairs

pytestmark = pytest.mark.faults
KILLS = 1 if ROUNDS == 1 else 2 * ROUNDS
EXIT_CODES = (0, -signal.SIGTERM)  # uvicorn passes the signal on when everything is done


async def test_nothing_acknowledged_is_lost_when_the_server_is_killed(deployment: Deployment) -> None:
    [server] = deployment.serve()
    pairs = ClientPairs.of(deployment, 10, lambda: server.port, "killed")
    async with pairs.connected():
        for _ in range(KILLS):
            async with pairs.writing():
                await pairs.acknowledged(random.randint(3, 20))
                server.kill()
                await asyncio.to_thread(server.start)
                await pairs.all_connected()
            await pairs.probe()
    found = pairs.report()
    note("server killed (-9)", rounds=KILLS, lost=len(found.lost), duplicated=len(found.duplicated))
    assert all(not client.unrecovered for client in pairs.clients)
    found.must_be_clean()


async def test_clients_of_a_killed_server_move_to_the_other_and_lose_nothing(deployment: Deployment) -> None:
    """The two of a pair are on different servers, and both write into the same room."""
    servers = deployment.serve(2)
    pairs = ClientPairs.of(deployment, 8, lambda: 0, "moved")

    def distribute(first: int) -> None:
        for number, client in enumerate(pairs.clients):
            client.choose_port = itertools.cycle([servers[(number + first) % 2].port]).__next__

    distribute(0)
    async with pairs.connected():
        for number in range(ROUNDS):
            dies, stays = servers[number % 2], servers[(number + 1) % 2]
            async with pairs.writing():
                await pairs.acknowledged(5)
                dies.kill()
                for client in pairs.clients:
                    client.choose_port = itertools.cycle([stays.port]).__next__
                await pairs.all_connected()
                await pairs.acknowledged(5)
            await pairs.probe()
            await asyncio.to_thread(dies.start)
    found = pairs.report()
    note("one of two servers killed", rounds=ROUNDS, lost=len(found.lost), duplicated=len(found.duplicated))
    found.must_be_clean()


async def test_sigterm_answers_accepted_requests_and_closes_with_1012(deployment: Deployment) -> None:
    [server] = deployment.serve()
    pairs = ClientPairs.of(deployment, 10, lambda: server.port, "terminated")
    async with pairs.connected():
        for _ in range(ROUNDS):
            for client in pairs.clients:
                client.close_codes.clear()
            async with pairs.writing():
                await pairs.acknowledged(5)
                assert await asyncio.to_thread(server.terminate) in EXIT_CODES
                await asyncio.to_thread(server.start)
                await pairs.all_connected()
            assert not sum(client.duplicate_acks for client in pairs.clients), "accepted and not acknowledged"
            close_codes = {client.close_codes[0] for client in pairs.clients}
            assert close_codes <= {1001, 1012}, close_codes
            await pairs.probe()
    found = pairs.report()
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
                        assert await asyncio.to_thread(server.terminate) in EXIT_CODES
                        await asyncio.to_thread(server.start)
                        await pairs.all_connected()
                await pairs.probe()
        assert not sum(client.duplicate_acks for client in pairs.clients), "accepted and not acknowledged"
    found = pairs.report()
    note(
        "rolling restart of two servers",
        rounds=ROUNDS,
        lost=len(found.lost),
        duplicated=len(found.duplicated),
    )
    found.must_be_clean()
