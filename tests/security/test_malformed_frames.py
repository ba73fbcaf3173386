"""Whatever comes in a frame: the answer is a coded error or the thing works, and the socket stays."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings

from hplus.protocol import wire
from hplus.realtime import messages
from hplus.routing import HPlusConsumer
from tests.fault_report import note
from tests.faults.deployment import ROUNDS
from tests.phone import Phone
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS

ROOM = {"receiverId": "doctor_123", "hospitalId": "hospital_001"}
EXAMPLES = 4 if ROUNDS == 1 else 50  # of every field of every request
ANSWERS = {"error", "ack", "logoutSuccess", "loginSuccess"}
FATAL = {messages.Login.type, messages.Logout.type}  # may rightly end the socket

UNREADABLE = {
    "deep": '{"type":"sendMessage","data":' + "[" * 900 + "]" * 900 + "}",
    "deeper": "[" * 30_000,
    "NaN": '{"type":"heartbeat","timestamp":NaN}',
    "Infinity": '{"type":"heartbeat","timestamp":-Infinity}',
    "1e999": '{"type":"heartbeat","timestamp":1e999}',
    "NUL": '{"type":"sendMessage","message":"a\\u0000b"}',
    "NUL in a key": '{"type":"sendMessage","a\\u0000":1}',
    "lone surrogate": '{"type":"sendMessage","message":"\\ud800"}',
    "duplicate keys": '{"type":"heartbeat","type":"logout"}',
    "5,000 digits": '{"type":"sync","since":' + "9" * 5000 + "}",
    "5,000 digits and a point": '{"type":"sync","since":' + "9" * 5000 + ".0}",
    "no JSON": "hello",
    "empty": "",
    "half": '{"type":',
    "raw control": '{"type":"a\x00"}',
}


async def test_unreadable_frame_is_refused_with_a_code(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as phone:
        for name, text in UNREADABLE.items():
            await phone.send_text(text)
            answer = await phone.expect_that(lambda _: True, f"an answer to {name}")
            note("hostile frames", let_in=int(answer.get("code") != "INVALID_JSON"))
            assert answer.get("code") == "INVALID_JSON", (name, answer)
        await phone.echo()
        assert [frame["type"] for frame in phone.frames] == ["hospitalJoined"]


async def test_frame_other_than_one_json_object_of_64_kib_is_refused(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as phone:
        for text in (
            "[]",
            "1",
            "null",
            '"logout"',
            "{}",
            '{"type":null}',
            '{"type":["logout"]}',
            b'{"type":"x"}',
        ):
            await phone.send_text(text)
            await phone.expect_error("INVALID_MESSAGE")
        await phone.send("nonsense")
        await phone.expect_error("UNKNOWN_TYPE")
        await phone.send("sendMessage", **ROOM, message="é" * 33_000)
        await phone.expect_error("MESSAGE_TOO_LARGE")
        await phone.echo()
        await phone.send_text("x" * (1024 * 1024 + 1))
        assert await phone.expect_close() == 1009


# Every field of every request

ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**31), 10**31),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=200),
    st.sampled_from(
        ["", " ", "patient_123", "doctor_123", "hospital_001", "x" * 1000, "١٢", "‮", "%s{}'\"\\"]
    ),
    st.lists(st.one_of(st.none(), st.integers(-5, 5), st.text("ab", max_size=3)), max_size=3),
    st.dictionaries(
        st.text("abcdlnturs", max_size=4), st.one_of(st.integers(-5, 5), st.booleans()), max_size=3
    ),
)
SOUND: dict[str, Any] = {
    "receiverId": "doctor_123",
    "participantIds": ["doctor_123"],
    "participantId": "nurse_001",
    "targetUserId": "doctor_123",
    "assigneeId": "doctor_123",
    "patientId": "patient_123",
    "hospitalId": "hospital_001",
    "toHospitalId": "hospital_002",
    "message": "hello",
    "reason": "because",
    "condition": "Chest pain",
    "isTyping": True,
    "onDiversion": False,
    "since": 0,
    "seq": 1,
    "limit": 3,
    "location": {"lat": 37.0, "lng": -122.0},
    "attachments": [{"url": "https://example.org/x", "size": 1}],
    "target": {"userId": "nurse_001"},
    "title": "Ward 3",
    "body": "Now",
    "token": "x",
}
REQUESTS = sorted(
    {handler.request for ear in HPlusConsumer.domains for handler in ear.handlers}
    | {kind for kind in wire.subclasses(wire.Request) if kind.__module__ == messages.__name__},
    key=lambda kind: str(kind.type),
)
SPEAKERS = [("patient_123", "patient", None), ("admin_001", "admin", "hospital_001")]


@st.composite
def frames(draw: st.DrawFn, kind: type[wire.Request], sound: dict[str, Any]) -> list[dict[str, Any]]:
    """For each field of the word a frame where it is odd and the others are sound; flat or under `data`."""
    fields = {field.alias or name: field for name, field in kind.model_fields.items()}
    plain = {name: _plain(get_args(field.annotation)) for name, field in fields.items()}
    good = {name: value for name in fields if (value := sound.get(name, plain[name])) is not None}
    drawn = []
    for name in fields:
        filled = {**good, name: draw(ODD)}
        is_nested = draw(st.booleans())
        drawn.append({"type": kind.type, "data": filled} if is_nested else {"type": kind.type, **filled})
    return drawn


def _plain(allowed: tuple[Any, ...]) -> Any:
    """The first word of a choice."""
    return allowed[0] if allowed and isinstance(allowed[0], str) else None


@pytest.mark.timeout(600 * ROUNDS)
async def test_no_field_of_any_type_causes_an_internal_error(
    server: ThreadServer, settings: Settings
) -> None:
    settings.HPLUS_MESSAGES_PER_MINUTE = 0
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        phones = [await stack.enter_async_context(server.phone(*speaker)) for speaker in SPEAKERS]
        sound = SOUND | await _things_of(phones[0])

        def say(odd: list[dict[str, Any]], speaker: int) -> None:
            is_fatal = odd[0]["type"] in FATAL
            work = _says_apart(server, odd) if is_fatal else _says(phones[speaker], odd)
            asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE_SECONDS)

        for kind in REQUESTS:
            tried, broken = await asyncio.to_thread(_odd, kind, sound, say)
            note("wrong types in every field of every request", rounds=tried, let_in=broken)


def _odd(kind: type[wire.Request], sound: dict[str, Any], say: Callable[..., None]) -> tuple[int, int]:
    """How many frames were sent, and how many of them broke something (it raises then)."""
    tried = broken = 0

    @hypothesis_settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(odd=frames(kind, sound), speaker=st.sampled_from(range(len(SPEAKERS))))
    def every(odd: list[dict[str, Any]], speaker: int) -> None:
        nonlocal tried, broken
        tried += len(odd)
        broken += len(odd)
        say(odd, speaker)
        broken -= len(odd)

    every()
    return tried, broken


async def _things_of(patient: Phone) -> dict[str, str]:
    """A message, an emergency and a call that the odd frames can be about."""
    place = {"hospitalId": "hospital_001", "location": SOUND["location"]}
    commands = [
        ("sendMessage", {**ROOM, "message": "hello"}),
        ("emergencyRequest", {**place, "patientId": "p", "condition": "Chest pain", "priority": "low"}),
        ("callInitiate", {**ROOM, "callType": "audio"}),
    ]
    made = [(await patient.ask(type_, **fields))["data"] for type_, fields in commands]
    return {name: value for data in made for name, value in data.items() if name.endswith("Id")}


async def _says(phone: Phone, odd: list[dict[str, Any]]) -> None:
    for frame in odd:
        await phone.send_text(json.dumps(frame))
    await phone.send("getMessages", requestId="after", chatRoomId="none")
    await phone.expect_that(lambda heard: heard.get("requestId") == "after", f"an answer after {odd}")
    assert not [error for error in phone.heard("error") if error["code"] == "INTERNAL_ERROR"], odd
    phone.frames.clear()
    phone.history.clear()


async def _says_apart(server: ThreadServer, odd: list[dict[str, Any]]) -> None:
    """What may end the socket."""
    for frame in odd:
        async with server.phone("nurse_001", "nurse", "hospital_001") as phone:
            await phone.send_text(json.dumps(frame))
            answer = await phone.expect_that(lambda heard: heard["type"] in ANSWERS, f"an answer to {frame}")
            assert answer.get("code") != "INTERNAL_ERROR", frame


QUERIES: list[dict[str, str]] = [
    {"deviceId": "a\x00b"},
    {"department": "a\x00b", "userId": "somebody new"},
    {"since": "9" * 400, "epoch": "x"},
    {"since": "-1"},
    {"since": "١٢"},
    {"since": "1", "epoch": "é" * 200},
    {"userId": "x" * 151},
    {"userId": "‮patient\r\n2026 ERROR forged"},
    {"hospitalId": "h" * 3000},
    {"deviceId": "d" * 3000},
]


async def test_no_query_causes_an_internal_error_in_the_handshake(
    server: ThreadServer, settings: Settings
) -> None:
    settings.REFUSED_SOCKET_SECONDS = 0.1
    for query in QUERIES:
        given = {"userId": "patient_123", "role": "patient"} | query
        phone = await Phone(server.socket_url, **given).open()
        first = await phone.expect_that(lambda frame: True, "the first word")
        assert first["type"] == "connection_established" or first["code"] != "INTERNAL_ERROR", (query, first)
        await phone.hang_up()


async def test_malformed_forwarded_address_breaks_nothing(server: ThreadServer) -> None:
    for forwarded in ("nobody", "1.2.3.4:99", "fe80::1%eth0", "<script>", "\xff"):
        headers = {"X-Forwarded-For": forwarded}
        async with Phone(server.socket_url, headers, userId="patient_123", role="patient") as phone:
            assert phone.established["userId"] == "patient_123"
