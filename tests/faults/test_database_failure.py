"""PostgreSQL stops or hangs while everybody writes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.fault_report import note
from tests.faults.deployment import ROUNDS, Deployment
from tests.faults.emergency_callers import call_for_help
from tests.faults.reconnecting_client import ClientPairs
from tests.phone import Phone
from tests.servers import Endpoint
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.faults
ROOM = {"receiverId": "doctor_123", "hospitalId": "hospital_001"}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("joinChatRoom", ROOM),
    ("sendMessage", {**ROOM, "message": "Is anybody there?"}),
    ("emergencyRequest", call_for_help("patient_123")),
    ("getMessages", {"chatRoomId": "none"}),
    ("callInitiate", {**ROOM, "callType": "audio"}),
]
in_the_long_form = pytest.mark.skipif(ROUNDS == 1, reason="takes long: make test-faults FAULT_ROUNDS=5")


async def test_nothing_acknowledged_is_lost_when_the_database_restarts(deployment: Deployment) -> None:
    [server] = deployment.serve()
    pairs = ClientPairs.of(deployment, 10, lambda: server.port, "restarted")
    async with pairs.connected():
        for _ in range(ROUNDS):
            async with pairs.writing(), pairs.beating():
                await pairs.acknowledged(5)
                await asyncio.to_thread(deployment.postgres.stop, "immediate")
                await pairs.heartbeats()
                await pairs.refused()
                await asyncio.to_thread(deployment.postgres.start)
                await pairs.probe()
            await pairs.probe()
            assert {client.connects for client in pairs.clients} == {1}, "a connection broke"
    found = pairs.report()
    note(
        "PostgreSQL stopped (immediate)",
        rounds=ROUNDS,
        lost=len(found.lost),
        duplicated=len(found.duplicated),
    )
    found.must_be_clean()


async def test_frozen_database_refuses_in_time_and_heartbeats_go_on(deployment: Deployment) -> None:
    """It thaws only when all that asked have been refused; afterwards all is well."""
    [server] = deployment.serve()
    pairs = ClientPairs.of(deployment, 10, lambda: server.port, "frozen")
    async with pairs.connected(), _many_requests(server, 12) as busy:
        for _ in range(ROUNDS):
            for client in pairs.clients:
                client.refused.clear()
            async with pairs.writing(), pairs.beating() as beats:
                await pairs.acknowledged(5)
                deployment.postgres.freeze()
                refused = await asyncio.gather(
                    *(_handshake_is_refused(server, number) for number in range(12)),
                    *(_requests_are_refused(phone) for phone in busy),
                    _http_is_refused(server.url),
                    *(_own_write_is_refused(pairs, number) for number in range(len(pairs.clients))),
                )
                longest = _longest_allowed(list(itertools.chain(*refused)), beats)
                deployment.postgres.thaw()
                await asyncio.gather(pairs.probe(), *map(_is_accepted, busy))
            assert not any(client.refused["silence"] for client in pairs.clients)
        assert max(client.slowest_answer_seconds for client in pairs.clients) < longest
        assert {client.connects for client in pairs.clients} == {1}, "a connection broke"
    found = pairs.report()
    note("PostgreSQL frozen", rounds=ROUNDS, lost=len(found.lost), duplicated=len(found.duplicated))
    found.must_be_clean()


def _longest_allowed(refusals: list[float], heartbeats: list[float]) -> float:
    """No refusal waits for another one, which takes twice as long; a heartbeat never waits for the database.

    Returns the seconds of two refusals.
    """
    usual = statistics.median(refusals)
    assert max(refusals) < 2 * usual, refusals
    assert statistics.median(heartbeats) < usual / 4
    return 2 * usual


async def _own_write_is_refused(pairs: ClientPairs, number: int) -> list[float]:
    await until(lambda: pairs.clients[number].refused["INTERNAL_ERROR"] > 0)
    return []


@contextlib.asynccontextmanager
async def _many_requests(server: Endpoint, count: int) -> AsyncIterator[list[Phone]]:
    """Connections that ask more at once than the server has threads."""
    async with contextlib.AsyncExitStack() as stack:
        phones = [server.phone(f"busy.{number}", "patient") for number in range(count)]
        yield [await stack.enter_async_context(phone) for phone in phones]


async def _requests_are_refused(phone: Phone) -> list[float]:
    """Seconds until each was: none waits until those before it have been given up."""

    async def ask(message_type: str, fields: dict[str, Any]) -> float:
        began = time.monotonic()
        answer = await phone.ask(message_type, **fields)
        assert answer.get("code") == "INTERNAL_ERROR", answer
        return time.monotonic() - began

    await asyncio.sleep(0.3)  # the HTTP requests take what database connections there are
    return await asyncio.gather(*(ask(message_type, fields) for message_type, fields in REQUESTS))


async def _is_accepted(phone: Phone) -> None:
    answer = await phone.ask("emergencyRequest", **call_for_help(phone.user_id))
    assert answer["type"] == "ack", answer


async def _handshake_is_refused(server: Endpoint, number: int) -> list[float]:
    """Seconds until then, for one of more than are admitted at a time."""
    await asyncio.sleep(number * 0.3)
    began = time.monotonic()
    phone = await server.phone(f"newcomer.{number}", "patient").open()
    await phone.expect_error("INTERNAL_ERROR")
    took = time.monotonic() - began
    assert await phone.expect_close() == 1011
    return [took]


async def _http_is_refused(url: str) -> list[float]:
    """The process says that it lives and that it cannot work, and refuses what needs the database."""
    headers = {"Authorization": "Bearer nobody"}
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, headers=headers) as client:
        began = time.monotonic()
        stuck = [asyncio.create_task(client.post(f"{url}/api/auth/logout/")) for _ in range(5)]
        assert (await client.get(f"{url}/health/")).json()["unavailable"] == ["database"]
        while not all(task.done() for task in stuck):
            assert (await client.get(f"{url}/health/live/")).status_code == 200
            await asyncio.sleep(0.2)
        took = time.monotonic() - began
        assert {task.result().json()["code"] for task in stuck} == {"INTERNAL_ERROR"}
    return [took]


async def test_handshake_without_database_is_refused_with_1011(deployment: Deployment) -> None:
    [server] = deployment.serve()
    await asyncio.to_thread(deployment.postgres.stop, "immediate")
    phone = await server.phone("patient_123", "patient").open()
    await phone.expect_error("INTERNAL_ERROR")
    assert await phone.expect_close() == 1011
    await asyncio.to_thread(deployment.postgres.start)
    async with server.phone("patient_123", "patient") as again:
        assert again.established["userId"] == "patient_123"
    assert b"Traceback" not in bytes(server.log)


@in_the_long_form
async def test_refused_handshakes_leave_no_connection_rows(deployment: Deployment) -> None:
    """Otherwise their user would seem present, and one day to hold too many connections."""
    [server] = deployment.serve(HPLUS_MAX_SOCKETS_PER_USER="3")
    async with server.phone("doctor_123", "doctor", "hospital_001"):
        deployment.postgres.freeze()
        tried = [await server.phone("patient_123", "patient").open() for _ in range(3)]
        for phone in tried:
            await phone.expect_error("INTERNAL_ERROR")
        deployment.postgres.thaw()
        for phone in tried:
            await phone.expect_close()
        connected = "SELECT 1 FROM realtime_connection WHERE user_id = 'patient_123'"
        present = "SELECT 1 FROM realtime_presence WHERE user_id = 'patient_123' AND status <> 'offline'"
        await until(lambda: not (deployment.query(connected) or deployment.query(present)))


@in_the_long_form
async def test_sigterm_ends_a_server_with_a_frozen_database(deployment: Deployment) -> None:
    [server] = deployment.serve()
    pairs = ClientPairs.of(deployment, 3, lambda: server.port, "hanging")
    async with pairs.connected(), pairs.writing():
        await pairs.acknowledged(3)
        deployment.postgres.freeze()
        await asyncio.sleep(0.5)  # so that requests wait for the database
        await asyncio.to_thread(server.terminate)
        assert {client.close_codes[0] for client in pairs.clients} <= {1001, 1012}
