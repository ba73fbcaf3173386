"""Too much from one user or one address: that one is slowed down, the others are not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import pytest
import websockets
from pytest_django import Settings

from hplus.api import throttling
from hplus.realtime.models import Connection
from tests.api import Api, refused
from tests.fault_report import note
from tests.phone import Phone
from tests.servers import Endpoint, ProcessServer, ThreadServer
from tests.waiting import until

ROOM = {"receiverId": "doctor_123", "hospitalId": "hospital_001"}
BACK = {"receiverId": "patient_123", "hospitalId": "hospital_001"}


HELP = {
    "patientId": "patient_123",
    "hospitalId": "hospital_001",
    "location": {"lat": 37.0, "lng": -122.0},
    "condition": "Chest pain",
    "priority": "critical",
}


@pytest.fixture
def metered(server: ThreadServer, settings: Settings) -> ThreadServer:
    settings.HPLUS_MESSAGES_PER_MINUTE = 60
    return server


async def test_user_over_the_rate_gets_retryAfter(metered: ThreadServer) -> None:
    """The limit is the user's, over all sockets; the other side of the same room is not touched."""
    async with (
        metered.phone("patient_123", "patient") as phone,
        metered.phone("patient_123", "patient") as other_screen,
        metered.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        for number in range(100):
            await phone.send("sendMessage", **ROOM, message=str(number))
        refused = await phone.expect_error("RATE_LIMITED")
        assert 0 < refused["retryAfter"] <= 60
        assert (await other_screen.ask("sendMessage", **ROOM, message="more"))["code"] == "RATE_LIMITED"
        assert (await doctor.ask("sendMessage", **BACK, message="I am fine"))["type"] == "ack"
        await phone.send("heartbeat", timestamp="now")
        await phone.expect("heartbeat", timestamp="now")
        taken = len({frame["data"]["messageId"] for frame in phone.heard("newMessage")})
        assert taken <= 60 + 5
        note("flood of one user", let_in=max(0, taken - 65))


async def test_client_that_keeps_flooding_is_closed_with_4101(metered: ThreadServer) -> None:
    phone = await metered.phone("patient_123", "patient").open()
    with contextlib.suppress(websockets.ConnectionClosed):  # in the middle of it
        for _ in range(800):
            await phone.send("getMessages", chatRoomId="none")
    assert await phone.expect_close() == 4101


async def test_excess_typing_is_dropped_without_an_error(metered: ThreadServer) -> None:
    """The guide's client opens a dialog for every error; a key held down must not open a hundred."""
    async with (
        metered.phone("patient_123", "patient") as phone,
        metered.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        await doctor.ask("joinChatRoom", **BACK)
        for _ in range(600):
            await phone.send("typing", **ROOM, isTyping=True)
        await doctor.expect("typing", isTyping=True)
        answer = await phone.ask("emergencyRequest", **HELP)  # heard in any case: what came before is over
        assert answer["type"] == "ack"
        assert not phone.heard("error")
        assert len(doctor.heard("typing")) <= 2
    flood = await metered.phone("test_user", "patient").open()
    with contextlib.suppress(websockets.ConnectionClosed):  # in the middle of it
        for _ in range(2_000):
            await flood.send("typing", **ROOM, isTyping=True)
    assert await flood.expect_close() == 4101


async def test_call_for_help_passes_a_flood_of_the_same_user(metered: ThreadServer) -> None:
    """Behind hundreds of refused messages on the same socket, and when the user has no frame credit left."""
    async with (
        metered.phone("patient_123", "patient") as phone,
        metered.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        for number in range(200):
            await phone.send("sendMessage", **ROOM, message=str(number))
        for _ in range(500):
            await phone.send("heartbeat")
        answer = await phone.ask("emergencyRequest", **HELP)
        await phone.expect_error("RATE_LIMITED", requestType="sendMessage")
        await phone.expect_error("RATE_LIMITED", requestType="heartbeat")
        lost = int(answer["type"] != "ack")
        note("emergency behind a flood of the same user", lost=lost)
        assert not lost, answer
        await doctor.expect("emergencyAlert", emergencyId=answer["data"]["emergencyId"])


async def test_http_has_the_same_rate_limit_and_accepts_calls_for_help(
    metered: ThreadServer, settings: Settings
) -> None:
    async with Api(metered, "patient_123") as patient, Api(metered, "doctor_123") as doctor:
        begun = time.monotonic()
        answers = [await patient.post("chat/messages/", json={**ROOM, "message": "more"}) for _ in range(80)]
        taken = sum(answer.status_code == 201 for answer in answers)
        allowed = 60 + int(time.monotonic() - begun) + 1  # one a second comes back
        note("flood of one user over HTTP", rounds=80, let_in=max(0, taken - allowed))
        assert 60 <= taken <= allowed
        answer = next(answer for answer in answers if answer.status_code != 201)
        assert 0 < refused(answer, 429, "RATE_LIMITED")["retryAfter"] <= int(answer.headers["Retry-After"])
        assert (await doctor.get("chat/rooms/")).status_code == 200
        called = await patient.post("emergencies/", json=HELP)
        note("emergency behind a flood of the same user", lost=int(called.status_code != 201))
        assert called.status_code == 201
        here = f"emergencies/{called.json()['data']['emergencyId']}"
        for _ in range(70):
            await doctor.get("chat/rooms/")
        assert (await doctor.post(f"{here}/response/", json={"action": "accept"})).status_code == 200
        settings.HPLUS_MESSAGES_PER_MINUTE = 0
        assert (await patient.get("chat/rooms/")).status_code == 200


async def test_password_guesses_per_address_are_limited(
    server: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever accounts it tries; who has signed in from there is not held up."""
    monkeypatch.setattr(throttling, "SIGN_INS_BURST", 20)
    monkeypatch.setattr(throttling, "SIGN_INS_PER_SECOND", 0.5)
    async with Api(server, "patient_123") as patient, Api(server) as stranger:
        guesses = [{"userId": f"nobody.{number}", "password": "guess"} for number in range(60)]
        begun = time.monotonic()
        answers = [await stranger.post("auth/token/", json=guess) for guess in guesses]
        tried = sum(answer.status_code == 401 for answer in answers)
        allowed = 20 + int(throttling.SIGN_INS_PER_SECOND * (time.monotonic() - begun)) + 1
        note("flood of sign-ins from one address", rounds=60, let_in=max(0, tried - allowed))
        assert 19 <= tried <= allowed
        refused(next(answer for answer in answers if answer.status_code != 401), 429, "RATE_LIMITED")
        assert (await patient.get("chat/rooms/")).status_code == 200


async def everyone_is_gone() -> bool:
    return not await Connection.objects.filter(user="patient_123").aexists()


async def test_connections_over_the_limit_per_user_are_refused(
    server: ThreadServer, settings: Settings
) -> None:
    """Also when all of them knock at once."""
    settings.HPLUS_MAX_SOCKETS_PER_USER = 3
    phones = await asyncio.gather(*(server.phone("patient_123", "patient").open() for _ in range(8)))
    firsts = await asyncio.gather(*(phone.expect_that(lambda _: True, "the first word") for phone in phones))
    inside = [phone for phone, first in zip(phones, firsts, strict=True) if first["type"] != "error"]
    assert len(inside) == 3
    assert {first["code"] for first in firsts if first["type"] == "error"} == {"TOO_MANY_CONNECTIONS"}
    outside = [phone for phone in phones if phone not in inside]
    assert set(await asyncio.gather(*(phone.expect_close() for phone in outside))) == {4102}
    note("more sockets than allowed", let_in=len(inside) - 3)
    for phone in inside:
        await phone.hang_up()
    await until(everyone_is_gone)
    async with server.phone("patient_123", "patient") as again:
        assert again.established


async def test_connections_over_the_limit_per_address_are_refused(
    server: ThreadServer, settings: Settings
) -> None:
    settings.HPLUS_MAX_SOCKETS_PER_IP = 1
    async with server.phone("patient_123", "patient"):
        phone = await server.phone("doctor_123", "doctor", "hospital_001").open()
        await phone.expect_error("TOO_MANY_CONNECTIONS")
        assert await phone.expect_close() == 4102


@contextlib.asynccontextmanager
async def a_good_pair(server: Endpoint) -> AsyncIterator[list[float]]:
    """Two who talk while the block runs; the seconds each message needed."""
    took: list[float] = []

    async def talk(patient: Phone, doctor: Phone) -> None:
        while True:
            begun = time.monotonic()
            await patient.send("sendMessage", **ROOM, message=f"word {len(took)}")
            await doctor.expect("newMessage", message=f"word {len(took)}")
            took.append(time.monotonic() - begun)
            await asyncio.sleep(0.05)

    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        task = asyncio.create_task(talk(patient, doctor))
        yield took
        if task.done():
            task.result()
        task.cancel()


async def knock(port: int, query: str) -> None:
    """One handshake of a client that does not wait for the answer."""
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET /?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        await asyncio.sleep(0.3)
        writer.close()


REFUSED = {  # the same refusal again and again, and one that needs a look into the database each time
    "no userId": "role=patient",
    "no such token": "userId=n{0}&role=doctor&hospitalId=hospital_001&token=t{0}",
}
KNOCKS = 2000


@pytest.mark.faults
async def test_thousand_refused_handshakes_a_second_do_not_delay_others(users: object) -> None:
    with ProcessServer(HPLUS_MESSAGES_PER_MINUTE="0") as server:
        async with a_good_pair(server) as took:
            for name, query in REFUSED.items():
                await asyncio.sleep(0.5)
                before, begun = len(took), time.monotonic()
                await asyncio.gather(
                    knock_a_thousand_times_a_second(server.port, query), calls_for_help(server)
                )
                lasted = time.monotonic() - begun
                meanwhile = sorted(took[before:])
                p95 = meanwhile[int(len(meanwhile) * 0.95)]
                assert p95 < 2, (
                    f"{name}: {KNOCKS / lasted:.0f}/s, {len(meanwhile)} words, p95 {p95:.3f} s,"
                    f" last {meanwhile[-1]:.3f} s"
                )
        others = Connection.objects.exclude(user__in=["patient_123", "doctor_123", "test_user"])
        note("1,000 refused handshakes a second", rounds=2 * KNOCKS, let_in=await others.acount())


async def calls_for_help(server: Endpoint) -> None:
    """Somebody at the very address the flood comes from, who has yet to connect."""
    await asyncio.sleep(0.5)
    async with server.phone("test_user", "patient") as phone:
        answer = await phone.ask("emergencyRequest", **HELP)
        note("emergency behind a flood of the same address", lost=int(answer["type"] != "ack"))
        assert answer["type"] == "ack", answer


async def knock_a_thousand_times_a_second(port: int, query: str) -> None:
    begun = time.monotonic()
    async with asyncio.TaskGroup() as knocks:
        for number in range(KNOCKS):
            knocks.create_task(knock(port, query.format(number)))
            if number % 20 == 0:
                await asyncio.sleep(max(0, begun + number / 1000 - time.monotonic()))


@pytest.mark.faults
async def test_flood_of_unlimited_types_is_closed_and_does_not_delay_others(users: object) -> None:
    with ProcessServer(HPLUS_MESSAGES_PER_MINUTE="60") as server:
        async with server.phone("paramedic_456", "paramedic", "hospital_001") as good:
            for type_ in ("heartbeat", "ack", "nonsense", "login"):
                codes, took = await _flood_with(server, type_, good)
                shown_out = 4001 if type_ == "login" else 4101  # a bad token ends the socket by itself
                admit = sum(code != shown_out for code in codes)
                note("flood of types without a limit", rounds=len(codes), let_in=admit)
                assert set(codes) == {shown_out}, type_
                assert sorted(took)[len(took) // 2] < 1, type_


async def _flood_with(server: ProcessServer, type_: str, good: Phone) -> tuple[list[int], list[float]]:
    """How the sockets of one who says it without a pause ended, and how long another waited meanwhile."""
    frame = json.dumps({"type": type_, "seq": 1, "token": "x"})
    flooders = [await server.phone(f"flooder.{type_}", "patient").open() for _ in range(5)]

    async def flood(phone: Phone) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await phone.send_text(frame)
                await asyncio.sleep(0.001)  # or this loop would never get to read the close

    floods = [asyncio.create_task(flood(phone)) for phone in flooders]
    took = []
    for _ in range(15):
        begun = time.monotonic()
        await good.ask("getMessages", chatRoomId="none")
        took.append(time.monotonic() - begun)
        await asyncio.sleep(0.05)
    codes = await asyncio.gather(*(phone.expect_close() for phone in flooders))
    await asyncio.gather(*floods)
    return codes, took
