"""Whatever comes in a frame: the answer is a coded error or the thing works, and the socket stays."""

from __future__ import annotations

import asyncio
import json
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hplus import wire
from hplus.realtime import messages
from hplus.routing import HPlusConsumer
from tests.ledger import note
from tests.phone import Phone
from tests.servers import ThreadServer

ROOM = {"receiverId": "doctor_123", "hospitalId": "hospital_001"}
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


@pytest.mark.parametrize("name", UNREADABLE)
async def test_what_cannot_be_read_is_refused_with_a_code(server: ThreadServer, name: str) -> None:
    async with server.phone("patient_123", "patient") as phone:
        await phone.send_text(UNREADABLE[name])
        await phone.expect_error("INVALID_JSON")
        await phone.echo()
        taken = [frame for frame in phone.frames if frame["type"] not in ("ack", "hospitalJoined")]
        note("hostile frames", let_in=len(taken))
        assert not taken


async def test_a_frame_is_one_json_object_of_at_most_64_kib_in_text(server: ThreadServer) -> None:
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


# Every field of every word

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
    "hospitalId": "hospital_001",
    "message": "hello",
    "isTyping": True,
    "since": 0,
    "seq": 1,
    "limit": 3,
    "location": {"lat": 37.0, "lng": -122.0},
    "attachments": [{"url": "https://example.org/x", "size": 1}],
}
WORDS = sorted(
    {handler.request for ear in HPlusConsumer.domains for handler in ear.handlers}
    | {word for word in wire.subclasses(wire.Request) if word.__module__ == messages.__name__},
    key=lambda word: str(word.type),
)


@st.composite
def frames(draw: st.DrawFn) -> dict[str, Any]:
    """One word, some of its fields sound, the others not; flat or under `data`."""
    word: type[wire.Request] = draw(st.sampled_from(WORDS))
    fields: dict[str, Any] = {}
    for name, field in word.model_fields.items():
        wire_name = field.alias or name
        sound = [st.just(SOUND[wire_name])] * 3 if wire_name in SOUND else []
        choice = draw(
            st.one_of(*sound, ODD, st.sampled_from(get_args(field.annotation) or [None]).map(_plain))
        )
        fields[wire_name] = choice
    if draw(st.booleans()):
        return {"type": word.type, "data": fields}
    return {"type": word.type, **fields}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else None


async def test_no_field_of_any_word_makes_an_internal_error(server: ThreadServer) -> None:
    loop = asyncio.get_running_loop()
    tried = broken = 0

    async def one(frame: dict[str, Any]) -> None:
        async with server.phone("patient_123", "patient") as phone:
            await phone.send_text(json.dumps(frame))
            if frame["type"] in FATAL:
                return
            await _is_alive(phone, frame)

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(frame=frames())
    def every(frame: dict[str, Any]) -> None:
        nonlocal tried, broken
        tried += 1
        broken += 1
        asyncio.run_coroutine_threadsafe(one(frame), loop).result(20)
        broken -= 1

    await asyncio.to_thread(every)
    note("wrong types in every field of every word", rounds=tried, let_in=broken)


async def _is_alive(phone: Phone, frame: dict[str, Any]) -> None:
    await phone.send("getMessages", requestId="after", chatRoomId="none")
    await phone.expect_that(lambda heard: heard.get("requestId") == "after", f"an answer after {frame}")
    assert not [error for error in phone.heard("error") if error["code"] == "INTERNAL_ERROR"], frame


@pytest.mark.parametrize(
    "query",
    [
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
    ],
)
async def test_no_query_breaks_the_handshake(server: ThreadServer, query: dict[str, str]) -> None:
    phone = await Phone(
        f"ws://127.0.0.1:{server.port}", **{"userId": "patient_123", "role": "patient"} | query
    ).open()
    first = await phone.expect_that(lambda frame: True, "the first word")
    assert first["type"] == "connection_established" or first["code"] != "INTERNAL_ERROR", first
    await phone.hang_up()


@pytest.mark.parametrize("forwarded", ["nobody", "1.2.3.4:99", "fe80::1%eth0", "<script>", "\xff"])
async def test_what_a_proxy_says_of_the_address_breaks_nothing(server: ThreadServer, forwarded: str) -> None:
    url = f"ws://127.0.0.1:{server.port}"
    headers = {"X-Forwarded-For": forwarded}
    async with Phone(url, headers, userId="patient_123", role="patient") as phone:
        assert phone.established["userId"] == "patient_123"
