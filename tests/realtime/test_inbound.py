"""What waits for its turn is bounded in bytes, and what calls for help waits behind nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hplus import errors
from hplus.protocol import wire
from hplus.realtime import consumers
from hplus.realtime.connection import actions
from hplus.realtime.hub.waiting_bytes import WaitingBytes
from tests.emergency.guide_frames import create_emergency_request
from tests.servers import ThreadServer


@pytest.fixture
def waiting_bytes(settings: Any) -> WaitingBytes:
    settings.INBOUND_BYTES, settings.INBOUND_BYTES_PER_USER = 4000, 500
    return WaitingBytes()


def test_user_over_the_bound_has_no_room_until_half_of_it_has_had_its_turn(
    waiting_bytes: WaitingBytes,
) -> None:
    told: list[str] = []
    waiting_bytes.add("ann", 501)
    assert not waiting_bytes.has_room("ann")
    assert waiting_bytes.has_room("ben")
    waiting_bytes.wait_for_room("ann", lambda: told.append("ann"))
    waiting_bytes.remove("ann", 250)
    assert not told
    waiting_bytes.remove("ann", 1)
    assert told == ["ann"]
    waiting_bytes.remove("ann", 250)
    assert (told, waiting_bytes.total) == (["ann"], 0)


def test_full_process_has_room_for_nobody_and_tells_everybody_once_half_of_it_is_free(
    waiting_bytes: WaitingBytes,
) -> None:
    told: list[str] = []
    names = [f"user.{number}" for number in range(16)]
    for name in names:
        waiting_bytes.add(name, 251)
        waiting_bytes.wait_for_room(name, lambda: told.append("somebody"))
    assert not any(map(waiting_bytes.has_room, [*names, "newcomer"]))
    waiting_bytes.wait_for_room("newcomer", lambda: told.append("newcomer"))
    for name in names[:8]:
        waiting_bytes.remove(name, 251)
    assert "newcomer" not in told
    for name in names[8:]:
        waiting_bytes.remove(name, 251)
    assert (len(told), told.count("newcomer")) == (17, 1)


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ('{"type":"x","a":[%s0]}' % ("0," * 3990), True),
        ('{"type":"x","a":[%s0]}' % ("0," * 4010), False),
        ('{"type":"x","a":[%s[]]}' % ("[]," * 2010), False),
        ('{"type":"x","a":"%s"}' % ('[{,\\"' * 3000), True),
        ('{"type":"x","a":[%s0],"b":"emergencyRequest"}' % ("0," * 4010), False),
        ('{"type":"emergencyRequest","vitals":{"ecg":[%s0]}}' % ("0," * 20_000), True),
        ('{"type":"emergency\\u0052equest","vitals":{"ecg":[%s0]}}' % ("0," * 20_000), True),
    ],
    ids=["most", "too many", "too many lists", "a text", "a false call", "a call", "an odd call"],
)
def test_frame_has_at_most_so_many_values_unless_it_calls_for_help(text: str, is_read: bool) -> None:
    if is_read:
        assert wire.parse(text)["type"]
    else:
        with pytest.raises(errors.InvalidJson) as refused:
            wire.parse(text)
        assert refused.value.details["maxValues"] == wire.MAX_VALUES


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Holds up each `joinHospital` until it is set."""
    opened = threading.Event()
    join = actions.join_hospital

    def held(*args: Any) -> Any:
        opened.wait()
        return join(*args)

    monkeypatch.setattr(consumers.actions, "join_hospital", held)
    yield opened
    opened.set()


async def test_call_for_help_overtakes_what_waits_however_it_is_written(
    unhurried: None, server: ThreadServer, gate: threading.Event
) -> None:
    """What only mentions one waits in its turn; an unreadable frame is refused in its turn."""
    call = create_emergency_request()
    odd = '{"data":{"type":"text"},"type":"emergency\\u0052equest","requestId":"odd",%s'
    async with server.phone("patient_123", "patient") as phone:
        await phone.send("joinHospital", hospitalId="hospital_001", requestId="first")
        await phone.send("joinHospital", hospitalId="hospital_001", requestId="emergencyRequest")
        await phone.send_text('{"type":')
        await phone.send("joinHospital", hospitalId="hospital_001", requestId="last")
        await phone.send_text(odd % wire.encode({k: v for k, v in call.items() if k != "type"}).decode()[1:])
        await phone.send("heartbeat", timestamp="now")
        await phone.expect("heartbeat", timestamp="now")
        assert not phone.heard("ack")
        gate.set()
        await phone.expect("ack", requestId="last")
        answers = [frame for frame in phone.history if frame["type"] in ("ack", "error")]
    named = [frame.get("requestId") or frame["code"] for frame in answers]
    assert named == ["first", "odd", "emergencyRequest", "INVALID_JSON", "last"]


async def test_connections_of_one_user_wait_together_and_are_read_on(
    unhurried: None, server: ThreadServer, gate: threading.Event, settings: Any
) -> None:
    """The bound is the user's: a connection that has sent little waits for room, too, and loses nothing."""
    settings.INBOUND_BYTES_PER_USER, settings.HPLUS_MESSAGES_PER_MINUTE = 50_000, 0
    long = {"hospitalId": "hospital_001", "padding": "x" * 20_000}
    async with (
        server.phone("patient_123", "patient") as one,
        server.phone("patient_123", "patient") as two,
        server.phone("test_user", "patient") as other,
    ):
        for phone in (one, two):
            for number in range(20):
                await phone.send("joinHospital", **long, requestId=str(number))
        await other.send("heartbeat", timestamp="now")
        await other.expect("heartbeat", timestamp="now")
        gate.set()
        for phone in (one, two):
            for number in range(20):
                await phone.expect("ack", requestId=str(number))
        await asyncio.gather(one.echo(), two.echo(), other.echo())
        assert not one.heard("error") + two.heard("error")
