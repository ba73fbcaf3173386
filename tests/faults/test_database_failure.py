"""PostgreSQL stops or hangs while everybody writes."""

from __future__ import annotations

import asyncio
import contextlib
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
from tests.waiting import until

pytestmark = pytest.mark.faults
FROZEN_SECONDS = 10
ROOM = {"receiverId": "doctor_123", "hospitalId": "hospital_001"}
ALL_AT_ONCE: list[tuple[str, dict[str, Any]]] = [
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
                await asyncio.sleep(0.5)
                await asyncio.to_thread(deployment.postgres.stop, "immediate")
                await asyncio.sleep(0.5)
                await asyncio.to_thread(deployment.postgres.start)
                await pairs.probe(within_seconds=5)
            await pairs.probe(within_seconds=5)
            assert {phone.connects for phone in pairs.phones} == {1}, "a socket died"
    found = pairs.reckoning()
    note(
        "PostgreSQL stopped (immediate)",
        rounds=ROUNDS,
        lost=len(found.lost),
        duplicated=len(found.duplicated),
    )
    found.must_be_clean()


async def test_frozen_database_refuses_in_time_and_heartbeats_go_on(deployment: Deployment) -> None:
    """Ten seconds: everyone who asks is told so within five, every heart beats, and then all is well."""
    [server] = deployment.serve()
    pairs = ClientPairs.of(deployment, 10, lambda: server.port, "frozen")
    async with pairs.connected(), _hasty(server, 12) as hasty:
        for _ in range(ROUNDS):
            for phone in pairs.phones:
                phone.refused.clear()
            async with pairs.writing(), pairs.beating(within_seconds=1):
                await asyncio.sleep(0.5)
                deployment.postgres.freeze()
                await asyncio.gather(
                    _stays_alive(server.url, FROZEN_SECONDS),
                    *(_is_refused_in_time(server, number) for number in range(12)),
                    *(_is_told_in_time(phone) for phone in hasty),
                )
                deployment.postgres.thaw()
                await asyncio.gather(pairs.probe(within_seconds=5), *map(_is_helped, hasty))
            assert [phone.user_id for phone in pairs.phones if not phone.refused["INTERNAL_ERROR"]] == []
            assert not any(phone.refused["silence"] for phone in pairs.phones)
            assert max(phone.slowest_answer_seconds for phone in pairs.phones) < 5
        assert {phone.connects for phone in pairs.phones} == {1}, "a socket died"
    found = pairs.reckoning()
    note("PostgreSQL frozen", rounds=ROUNDS, lost=len(found.lost), duplicated=len(found.duplicated))
    found.must_be_clean()


@contextlib.asynccontextmanager
async def _hasty(server: Endpoint, count: int) -> AsyncIterator[list[Phone]]:
    """More phones than the server has threads."""
    async with contextlib.AsyncExitStack() as stack:
        phones = [server.phone(f"hasty.{number}", "patient") for number in range(count)]
        yield [await stack.enter_async_context(phone) for phone in phones]


async def _is_told_in_time(phone: Phone) -> None:
    """It asks for all of these at once: none has to wait until those before it have been given up."""

    async def ask(word: str, fields: dict[str, Any]) -> None:
        begun = time.monotonic()
        answer = await phone.ask(word, **fields)
        assert answer.get("code") == "INTERNAL_ERROR", answer
        assert time.monotonic() - begun < 5, f"{word} took {time.monotonic() - begun}"

    await asyncio.sleep(0.3)  # let those who ask the API take what connections there are
    await asyncio.gather(*(ask(word, fields) for word, fields in ALL_AT_ONCE))


async def _is_helped(phone: Phone) -> None:
    async with asyncio.timeout(5):
        assert (await phone.ask("emergencyRequest", **call_for_help(phone.user_id)))["type"] == "ack"


async def _is_refused_in_time(server: Endpoint, number: int) -> None:
    """Somebody who comes in these moments, one of more than the server lets in at a time."""
    await asyncio.sleep(number * 0.3)
    begun = time.monotonic()
    phone = await server.phone(f"newcomer.{number}", "patient").open()
    await phone.expect_error("INTERNAL_ERROR")
    assert time.monotonic() - begun < 5, f"the handshake took {time.monotonic() - begun}"
    assert await phone.expect_close() == 1011


async def _stays_alive(url: str, seconds: float) -> None:
    """The process says it lives and that it can't work, and the API refuses in time."""
    until = time.monotonic() + seconds
    async with httpx.AsyncClient(timeout=5, headers={"Authorization": "Bearer nobody"}) as client:
        stuck = [asyncio.create_task(client.post(f"{url}/api/auth/logout/")) for _ in range(5)]
        assert (await client.get(f"{url}/health/live/")).status_code == 200
        assert (await client.get(f"{url}/health/")).json()["unavailable"] == ["database"]
        while time.monotonic() < until:
            assert (await client.get(f"{url}/health/live/", timeout=1)).status_code == 200
            await asyncio.sleep(0.2)
        answers = [await task for task in stuck]
        assert {answer.json()["code"] for answer in answers} == {"INTERNAL_ERROR"}


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
    """Else their user would be taken for present, and one day for one with too many sockets."""
    [server] = deployment.serve(HPLUS_MAX_SOCKETS_PER_USER="3")
    async with server.phone("doctor_123", "doctor", "hospital_001"):
        deployment.postgres.freeze()
        tried = [await server.phone("patient_123", "patient").open() for _ in range(3)]
        for phone in tried:
            await phone.expect_error("INTERNAL_ERROR")
        deployment.postgres.thaw()
        for phone in tried:
            await phone.expect_close()
        ghosts = "SELECT 1 FROM realtime_connection WHERE user_id = 'patient_123'"
        taken_for_present = (
            "SELECT 1 FROM realtime_presence WHERE user_id = 'patient_123' AND status <> 'offline'"
        )
        await until(lambda: not (deployment.ask(ghosts) or deployment.ask(taken_for_present)), seconds=30)


@in_the_long_form
async def test_sigterm_ends_a_server_with_a_frozen_database(deployment: Deployment) -> None:
    [server] = deployment.serve()
    pairs = ClientPairs.of(deployment, 3, lambda: server.port, "hanging")
    async with pairs.connected(), pairs.writing():
        await asyncio.sleep(0.3)
        deployment.postgres.freeze()
        await asyncio.sleep(0.5)
        begun = time.monotonic()
        await asyncio.to_thread(server.terminate)
        took = time.monotonic() - begun
        assert took < 10, took
        assert {phone.close_codes[0] for phone in pairs.phones} <= {1001, 1012}
