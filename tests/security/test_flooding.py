"""Too much from one user or one address: that one is slowed down, the others are not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from pytest_django import Settings
from websockets.exceptions import InvalidStatus

from chat import consumers
from hplus.api import claims, throttling
from hplus.api.lanes import Lane
from hplus.management.commands.seed_demo import PASSWORD
from hplus.realtime.connection.admission import admission
from hplus.realtime.models import Connection
from tests.api import Api, refused
from tests.fault_report import note
from tests.phone import Phone
from tests.servers import Endpoint, ProcessServer, ThreadServer
from tests.waiting import PATIENCE_SECONDS, until

BURST = 60  # messages that nobody has to wait for
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
    """With a limit of messages, of which no credit comes back during a test."""
    settings.HPLUS_MESSAGES_PER_MINUTE = 1
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
        own = [one for one in phone.heard("newMessage") if one["data"]["senderId"] == "patient_123"]
        taken = len({frame["data"]["messageId"] for frame in own})
        note("flood of one user", let_in=max(0, taken - BURST))
        assert taken == BURST


async def test_client_that_keeps_flooding_is_closed_with_4101(metered: ThreadServer) -> None:
    phone = await metered.phone("patient_123", "patient").open()
    assert await phone.flood("getMessages", chatRoomId="none") == 4101


async def test_excess_typing_is_dropped_without_an_error(
    metered: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guide's client opens a dialog for every error; a key held down must not open a hundred."""
    monkeypatch.setattr(consumers, "TYPING_REPEAT_SECONDS", 10 * PATIENCE_SECONDS)
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
    assert await flood.flood("typing", **ROOM, isTyping=True) == 4101


async def test_call_for_help_passes_a_flood_of_the_same_user(metered: ThreadServer) -> None:
    """Behind hundreds of refused messages on the same socket, and when the user has no frame credit left."""
    async with (
        metered.phone("patient_123", "patient") as phone,
        metered.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        for number in range(200):
            await phone.send("sendMessage", **ROOM, message=str(number))
        while not any(error["requestType"] == "heartbeat" for error in phone.heard("error")):
            await phone.send("heartbeat")
            await asyncio.sleep(0)  # the errors have to be read, too
        answer = await phone.ask("emergencyRequest", **HELP)
        await phone.expect_error("RATE_LIMITED", requestType="sendMessage")
        lost = int(answer["type"] != "ack")
        note("emergency behind a flood of the same user", lost=lost)
        assert not lost, answer
        await doctor.expect("emergencyAlert", emergencyId=answer["data"]["emergencyId"])


async def test_http_has_the_same_rate_limit_and_accepts_calls_for_help(
    metered: ThreadServer, settings: Settings
) -> None:
    async with Api(metered, "patient_123") as patient, Api(metered, "doctor_123") as doctor:
        answers = [await patient.post("chat/messages/", json={**ROOM, "message": "more"}) for _ in range(70)]
        taken = sum(answer.status_code == 201 for answer in answers)
        note("flood of one user over HTTP", rounds=70, let_in=max(0, taken - BURST))
        assert taken == BURST
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
    monkeypatch.setattr(throttling, "SIGN_INS_PER_SECOND", 0.001)
    async with Api(server, "patient_123") as patient, Api(server) as stranger:
        guesses = [{"userId": f"nobody.{number}", "password": "guess"} for number in range(60)]
        answers = [await stranger.post("auth/token/", json=guess) for guess in guesses]
        tried = sum(answer.status_code == 401 for answer in answers)
        note("flood of sign-ins from one address", rounds=60, let_in=max(0, tried - 20))
        assert tried == 19, "the patient's own came first"
        refused(next(answer for answer in answers if answer.status_code != 401), 429, "RATE_LIMITED")
        assert (await patient.get("chat/rooms/")).status_code == 200


async def test_device_that_keeps_guessing_leaves_sign_ins_to_colleagues_behind_the_same_address(
    server: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also to the person whose password it guesses, on a device that the person has signed in with."""
    for limit, burst in {"SIGN_INS": 40, "SIGN_INS_OF_ONE": 20}.items():
        monkeypatch.setattr(throttling, f"{limit}_BURST", burst)
        monkeypatch.setattr(throttling, f"{limit}_PER_SECOND", 0.001)
    own = {"userId": "doctor_123", "password": PASSWORD, "deviceId": "of the doctor"}
    colleague = {"userId": "nurse_001", "password": PASSWORD}
    async with Api(server) as anybody:
        assert (await anybody.post("auth/token/", json=own)).status_code == 200
        guess = {"userId": "doctor_123", "password": "guess"}
        answers = [await anybody.post("auth/token/", json=guess) for _ in range(60)]
        note("guesses of a device", rounds=60, let_in=sum(answer.status_code == 200 for answer in answers))
        assert (await anybody.post("auth/token/", json=own)).status_code == 200
        assert (await anybody.post("auth/token/", json=colleague)).status_code == 200


async def test_wrong_token_over_http_is_refused_without_a_look_and_others_are_served(
    server: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "FAILURES_PER_SECOND", 0.001)
    async with Api(server, "doctor_123") as doctor, Api(server) as stranger:
        wrong = {"Authorization": "Bearer wrong"}
        answers = [await stranger.get("chat/rooms/", headers=wrong) for _ in range(60)]
        tried = sum(answer.status_code == 401 for answer in answers)
        note("requests with a wrong token", rounds=60, let_in=max(0, tried - claims.FAILURES_BURST))
        assert tried == claims.FAILURES_BURST
        refused(answers[-1], 429, "RATE_LIMITED")
        other = {"Authorization": "Bearer expired"}
        refused(await stranger.get("chat/rooms/", headers=other), 401, "AUTHENTICATION_FAILED")
        assert (await doctor.get("chat/rooms/")).status_code == 200


async def test_queue_of_a_lane_has_room_for_colleagues_of_a_device_that_floods_it() -> None:
    """One claim gets an eighth of it, one address half, whoever it claims to be."""
    lane, may_end = Lane("api"), asyncio.Event()

    async def request(address: str, claimant: str) -> None:
        async with lane.place(address, claimant):
            await may_end.wait()

    async def are_waiting(count: int, claimant: str) -> tuple[int, int]:
        """So many more; how many of them wait, and how many are refused."""
        tasks = [asyncio.create_task(request("hospital", claimant.format(n))) for n in range(count)]
        waiting.extend(tasks)
        await asyncio.sleep(0)
        rejected = [task for task in tasks if task.done() and task.exception()]
        return count - len(rejected), len(rejected)

    waiting: list[asyncio.Task[None]] = []
    assert await are_waiting(lane.places, "at work {0}") == (lane.places, 0)
    assert await are_waiting(100, "device") == (25, 75)
    assert await are_waiting(1, "nurse") == (1, 0)
    assert await are_waiting(100, "device of many names {0}") == (74, 26)
    may_end.set()
    await asyncio.wait(waiting)


async def test_refused_connections_of_one_device_keep_no_error_from_a_colleague(
    server: ThreadServer, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """Who is told that a token has expired renews it; who is only closed does not know why."""
    settings.REFUSED_SOCKET_SECONDS = 3.0
    monkeypatch.setattr(admission, "held", claims.Shares(4, 2))
    wrong = {"user_id": "doctor_123", "role": "doctor", "hospital_id": "hospital_001", "token": "wrong"}

    async def hammer() -> bool:
        """Whether it was told why."""
        phone = server.phone(**wrong)
        try:
            await phone.open()
        except InvalidStatus:
            return False
        await phone.expect_error("AUTHENTICATION_FAILED")
        return True

    hammering = [asyncio.create_task(hammer()) for _ in range(6)]
    await until(lambda: sum(task.done() for task in hammering) >= 2)
    colleague = await server.phone(**{**wrong, "token": "expired"}).open()
    await colleague.expect_error("AUTHENTICATION_FAILED")
    assert await colleague.expect_close() == 4001
    assert sum(await asyncio.gather(*hammering)) >= 2


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
async def a_good_pair(server: Endpoint) -> AsyncIterator[GoodPair]:
    """Two who talk while the block runs."""
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        pair = GoodPair(patient, doctor)
        task = asyncio.create_task(pair.talk())
        try:
            yield pair
            if task.done():
                task.result()  # raises what ended it
        finally:
            task.cancel()


class GoodPair:
    """Two who talk: one writes, and writes again when the other has got it."""

    def __init__(self, patient: Phone, doctor: Phone) -> None:
        self._patient, self._doctor = patient, doctor
        self.exchanged = 0

    async def talk(self) -> None:
        while True:
            await self._patient.send("sendMessage", **ROOM, message=f"word {self.exchanged}")
            await self._doctor.expect("newMessage", message=f"word {self.exchanged}")
            self.exchanged += 1
            await asyncio.sleep(0.05)

    async def exchanges(self, count: int) -> None:
        """Wait for so many more messages."""
        enough = self.exchanged + count
        await until(lambda: self.exchanged >= enough)


async def calls_for_help(server: Endpoint) -> None:
    """Somebody at the very address the flood comes from, who has yet to connect."""
    async with server.phone("test_user", "patient") as phone:
        answer = await phone.ask("emergencyRequest", **HELP)
        note("emergency behind a flood of the same address", lost=int(answer["type"] != "ack"))
        assert answer["type"] == "ack", answer


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
MEANWHILE = 20  # messages of two others


@pytest.mark.faults
async def test_thousand_refused_handshakes_a_second_do_not_delay_others(users: object) -> None:
    """The flood ends only when others have exchanged their messages and somebody's call was accepted."""
    with ProcessServer(HPLUS_MESSAGES_PER_MINUTE="0") as server:
        async with a_good_pair(server) as pair:
            for query in REFUSED.values():

                async def others() -> None:
                    await asyncio.gather(pair.exchanges(MEANWHILE), calls_for_help(server))

                knocks = await knock_a_thousand_times_a_second(server.port, query, meanwhile=others)
                note("1,000 refused handshakes a second", rounds=knocks)
        strangers = Connection.objects.exclude(user__in=["patient_123", "doctor_123", "test_user"])
        admitted = await strangers.acount()
        note("1,000 refused handshakes a second", rounds=0, let_in=admitted)
        assert not admitted


async def knock_a_thousand_times_a_second(
    port: int, query: str, meanwhile: Callable[[], Coroutine[Any, Any, None]]
) -> int:
    """KNOCKS times, and on until what was begun in the middle of it is done. Returns how often."""
    knocks = 0
    others: asyncio.Task[None] | None = None
    async with asyncio.TaskGroup() as all_of_them:
        while others is None or knocks < KNOCKS or not others.done():
            all_of_them.create_task(knock(port, query.format(knocks)))
            knocks += 1
            if knocks == KNOCKS // 4:
                others = all_of_them.create_task(meanwhile())
            if knocks % 20 == 0:
                await asyncio.sleep(20 / 1000)
    return knocks


@pytest.mark.faults
async def test_flood_of_unlimited_types_is_closed_and_does_not_delay_others(users: object) -> None:
    with ProcessServer(HPLUS_MESSAGES_PER_MINUTE="6000") as server:
        async with server.phone("paramedic_456", "paramedic", "hospital_001") as good:
            for type_ in ("heartbeat", "ack", "nonsense", "login"):
                codes, answers = await _flood_with(server, type_, good)
                shown_out = 4001 if type_ == "login" else 4101  # a bad token ends the socket by itself
                admit = sum(code != shown_out for code in codes)
                note("flood of types without a limit", rounds=len(codes), let_in=admit)
                assert set(codes) == {shown_out}, type_
                assert answers >= (1 if type_ == "login" else 5), type_


async def _flood_with(server: ProcessServer, type_: str, good: Phone) -> tuple[list[int], int]:
    """How the sockets of one who says it all the time ended; how often another was answered meanwhile."""
    phones = [await server.phone(f"flooder.{type_}", "patient").open() for _ in range(5)]
    floods = asyncio.gather(*(phone.flood(type_, pause_seconds=0.001, seq=1, token="x") for phone in phones))
    answers = 0
    while not floods.done():
        await good.ask("getMessages", chatRoomId="none")
        answers += 1
    return await floods, answers
