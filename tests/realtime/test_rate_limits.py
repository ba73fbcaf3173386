"""Who asks too much is told to slow down; who does not stop has to go."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from hplus.api import throttling
from hplus.realtime import consumers
from hplus.realtime.models import Connection
from tests.api import Api
from tests.phone import Frame
from tests.servers import ThreadServer
from tests.waiting import until

HOSPITAL = "hospital_001"
ROOM = {"receiverId": "doctor_123", "hospitalId": HOSPITAL}


async def test_burst_is_allowed_and_then_the_rate_limits(server: ThreadServer, settings: Any) -> None:
    settings.HPLUS_MESSAGES_PER_MINUTE = 1  # no credit comes back during the test
    async with (
        server.phone("patient_123", "patient") as phone,
        server.phone("patient_123", "patient") as tablet,
        server.phone("test_user", "patient") as other,
    ):
        assert phone.established["limits"] == {
            "maxMessageBytes": 65536,
            "maxMessageCharacters": 8000,
            "messagesPerMinute": 1,
        }
        for number in range(60):
            await phone.send("sendMessage", **ROOM, message=f"Queued {number}")
        await phone.expect("newMessage", message="Queued 59")
        assert not phone.heard("error")
        for number in range(4):
            await phone.send("joinHospital", hospitalId=HOSPITAL, requestId=f"r{number}")
        error = await phone.expect_error("RATE_LIMITED")
        assert 0 < error["retryAfter"] <= 60
        assert error["requestType"] == "joinHospital"
        # All sockets of a person share the credit; another person has their own.
        await tablet.send("joinHospital", hospitalId=HOSPITAL)
        await tablet.expect_error("RATE_LIMITED")
        await other.echo()
        # What tells that the server lives, and what ends a socket's ignorance, is never limited.
        for _ in range(100):
            await phone.send("heartbeat")
            await phone.send("ack", seq=1)
        for _ in range(100):
            await phone.expect("heartbeat")
        await phone.send("typing", **ROOM, isTyping=True)
        assert (await phone.ask("joinHospital", hospitalId=HOSPITAL))["code"] == "RATE_LIMITED"
        assert [frame["requestType"] for frame in phone.heard("error")] == ["joinHospital"] * 5
        assert phone.close_code is None


async def test_refused_request_is_accepted_after_retryAfter(server: ThreadServer, settings: Any) -> None:
    settings.HPLUS_MESSAGES_PER_MINUTE = 600
    async with server.phone("patient_123", "patient") as phone:
        while (answer := await phone.ask("joinHospital", hospitalId=HOSPITAL))["type"] == "ack":
            pass
        assert (answer["code"], 0 < answer["retryAfter"] <= 0.1) == ("RATE_LIMITED", True)
        await asyncio.sleep(answer["retryAfter"] + 0.001)  # rounded to a thousandth
        await phone.echo()
        assert len(phone.heard("error")) == 1


async def test_client_that_ignores_the_limit_is_closed_with_4101(server: ThreadServer, settings: Any) -> None:
    settings.HPLUS_MESSAGES_PER_MINUTE = 1
    async with (
        server.phone("patient_123", "patient") as phone,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
    ):
        assert await phone.flood("joinHospital", hospitalId=HOSPITAL) == 4101
        assert {frame["code"] for frame in phone.heard("error")} == {"RATE_LIMITED"}
        await doctor.echo()
    async with server.phone("patient_123", "patient") as again:
        await again.send("heartbeat")
        await again.expect("heartbeat")


async def test_zero_means_no_rate_limit(server: ThreadServer, settings: Any) -> None:
    settings.HPLUS_MESSAGES_PER_MINUTE = 0
    async with server.phone("patient_123", "patient") as phone:
        for _ in range(300):
            await phone.send("joinHospital", hospitalId=HOSPITAL)
        await phone.echo()
        assert not phone.heard("error")


async def one_is_left() -> bool:
    return await Connection.objects.filter(user="patient_123").acount() == 1


async def test_connections_over_the_limit_per_user_or_address_are_refused(
    server: ThreadServer, settings: Any
) -> None:
    settings.HPLUS_MAX_SOCKETS_PER_USER = 2
    settings.REFUSED_SOCKET_SECONDS = 0.05
    async with (
        server.phone("patient_123", "patient") as one,
        server.phone("patient_123", "patient") as two,
        server.phone("test_user", "patient") as other,
    ):
        third = await server.phone("patient_123", "patient").open()
        assert (await third.expect("error"))["code"] == "TOO_MANY_CONNECTIONS"
        assert await third.expect_close() == 4102
        for phone in (one, two, other):
            await phone.echo()
        await one.hang_up()
        await until(one_is_left)
        async with server.phone("patient_123", "patient") as again:
            await again.echo()
        settings.HPLUS_MAX_SOCKETS_PER_IP = 2
        full = await server.phone("test_user", "patient").open()
        assert (await full.expect("error"))["code"] == "TOO_MANY_CONNECTIONS"
        assert await full.expect_close() == 4102


async def test_sync_costs_by_what_it_reads(server: ThreadServer, settings: Any) -> None:
    settings.HPLUS_MESSAGES_PER_MINUTE = 1
    async with (
        server.phone("patient_123", "patient") as phone,
        server.phone("patient_123", "patient") as tablet,
        server.phone("test_user", "patient") as other,
    ):
        for number in range(59):
            await phone.send("sendMessage", **ROOM, message=f"{number} {'x' * 7_900}")
        await phone.expect_that(lambda frame: str(frame.get("message", "")).startswith("58 "), "the last one")
        await tablet.send("sync", since=0, limit=1000)
        await tablet.expect("syncComplete")
        refused = await phone.ask("joinHospital", hospitalId=HOSPITAL)
        assert refused["code"] == "RATE_LIMITED"
        assert refused["retryAfter"] > 60  # more than the one credit of a request
        await other.echo()


async def test_one_long_answer_of_a_person_is_read_at_a_time(
    server: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work: list[int] = []
    most = 0
    read = consumers.actions.sync

    def sync(*asked: Any) -> Any:
        nonlocal most
        at_work.append(1)
        most = max(most, len(at_work))
        try:
            return read(*asked)
        finally:
            at_work.pop()

    monkeypatch.setattr(consumers.actions, "sync", sync)
    async with contextlib.AsyncExitStack() as stack:
        phones = [await stack.enter_async_context(server.phone("patient_123", "patient")) for _ in range(10)]

        async def ask(phone: Any) -> Frame:
            answer: Frame = await phone.ask("sync", since=0, limit=1000)
            return answer

        for answer in await asyncio.gather(*map(ask, phones)):
            assert answer["type"] == "ack" or answer["code"] == "RATE_LIMITED"
        assert most == 1


async def test_http_waits_for_no_turn_but_says_when_to_return(server: ThreadServer) -> None:
    async with Api(server, "patient_123") as patient:
        with throttling.long_answers.at_once("patient_123"):
            response = await patient.get("sync/?since=0")
            assert (response.status_code, response.json()["code"]) == (429, "RATE_LIMITED")
            assert response.json()["retryAfter"] > 0
        assert (await patient.get("sync/?since=0")).status_code == 200
