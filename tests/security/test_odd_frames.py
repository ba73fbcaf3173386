"""Limits count messages, the wire carries frames: pings, fragments and unfinished messages have limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hplus.operations import websocket_reading
from hplus.operations.websocket_protocol import WebSocketProtocol
from hplus.realtime.connection.rate_limits import Bucket
from tests.emergency.guide_frames import create_emergency_request
from tests.phone import Phone
from tests.raw_client import CONTINUATION, PING, PONG, TEXT, RawClient, Received, frame
from tests.realtime.test_metrics import figures
from tests.security.test_flooding import a_good_pair, calls_for_help
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS, until

LONG = "long " * 1500
STRANGER = ""  # a query without anybody in it
BEGINNING = frame(TEXT, b'{"type":', fin=False)
FLOODS = {
    "pings": frame(PING) * 1000,
    "pongs": frame(PONG) * 1000,
    "long pings": frame(PING, b"x" * 125) * 100,
    "empty fragments": BEGINNING + frame(CONTINUATION, fin=False) * 1000,
    "messages in two fragments": (BEGINNING + frame(CONTINUATION, b'"x"}')) * 1000,
}


@pytest.fixture
def demo_is_over(settings: Any) -> Any:
    """A function that ends the demo mode: from then on who has no token is a stranger."""

    def end() -> None:
        settings.HPLUS_DEMO = False

    return end


async def protocol_of(server: ThreadServer) -> WebSocketProtocol:
    """The server's side of the one connection, once it has been handed over."""

    def found() -> list[WebSocketProtocol]:
        connections = server._server.server_state.connections
        return [one for one in connections if isinstance(one, WebSocketProtocol) and one._is_direct]

    await until(lambda: len(found()) == 1)
    return found()[0]


async def received_until_close(client: RawClient) -> list[Received]:
    received = []

    async def receive() -> None:
        while not received or received[-1][0] != 0x8:
            received.append(await client.receive())

    async with asyncio.timeout(PATIENCE_SECONDS):
        await receive()
    return received


async def code_after(client: RawClient, data: bytes) -> tuple[int, int]:
    """Send this until the server closes the connection. Returns its code, and how many pongs came before."""
    reading = asyncio.create_task(received_until_close(client))
    await client.write_until_ended(data)
    received = await reading
    return int.from_bytes(received[-1][1][:2]), sum(opcode == PONG for opcode, _ in received)


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("query", [STRANGER, "userId=test_user&role=patient"], ids=["a stranger", "a user"])
async def test_flood_of_odd_frames_is_closed_and_does_not_delay_others(
    server: ThreadServer, demo_is_over: Any, query: str, flood: str
) -> None:
    before = figures(server)
    async with a_good_pair(server) as pair, RawClient(server, query) as client:
        if query == STRANGER:
            demo_is_over()
            await client.upgrade()
        else:
            await client.greeted()
        (code, pongs), _ = await asyncio.gather(code_after(client, FLOODS[flood]), pair.exchanges(5))
        assert code == 4101
        assert pongs < 100
    cut = [
        name for name, value in figures(server).items() if "cut_total" in name and value > before.get(name, 0)
    ]
    assert len(cut) == 1, cut
    reason = "fragments" if flood == "empty fragments" else "no messages"
    assert reason in cut[0] or query == STRANGER


async def test_honest_pings_and_fragments_are_answered(server: ThreadServer) -> None:
    """Also many messages of many fragments: up to 64 each."""
    text = json.dumps({"type": "heartbeat", "timestamp": "in pieces"}).encode()
    pieces = [text[position : position + 1] for position in range(len(text))]
    assert len(pieces) < 64
    async with RawClient(server) as client:
        await client.greeted()
        for number in range(5):
            client.writer.write(frame(PING, b"%d" % number))
            client.writer.write(frame(TEXT, pieces[0], fin=False))
            client.writer.write(b"".join(frame(CONTINUATION, piece, fin=False) for piece in pieces[1:]))
            client.writer.write(frame(CONTINUATION))
            await client.expect_heartbeat("in pieces")
        client.writer.write(b"".join(frame(PING, b"p%d" % number) for number in range(50)))
        await client.expect(lambda got: got == (PONG, b"p49"))


async def test_burst_of_many_slices_is_answered_in_order(server: ThreadServer, settings: Any) -> None:
    settings.HPLUS_MESSAGES_PER_MINUTE = 0
    beats = [json.dumps({"type": "heartbeat", "timestamp": str(number)}).encode() for number in range(5000)]
    async with RawClient(server) as client:
        await client.greeted()
        reading = asyncio.create_task(client.expect_heartbeat("4999"))
        client.writer.write(b"".join(frame(TEXT, beat) for beat in beats))
        await reading
    async with RawClient(server) as client:
        await client.upgrade(b"".join(frame(TEXT, beat) for beat in beats))  # before anybody is greeted
        for number in range(5000):
            _, payload = await client.expect(lambda got: b'"heartbeat"' in got[1])
            assert json.loads(payload)["timestamp"] == str(number)


@pytest.mark.parametrize("size", [65_537, 300_000, 1024 * 1024])
async def test_too_large_message_is_refused_without_being_kept(server: ThreadServer, size: int) -> None:
    async with RawClient(server) as client:
        await client.greeted()
        whole = frame(TEXT, b"x" * size)
        protocol = await protocol_of(server)
        client.writer.write(whole[:-1])
        await until(lambda: protocol._skipped == 1)
        assert len(protocol._rest) + len(protocol._unread) == 0
        client.writer.write(whole[-1:] + frame(TEXT, b'{"type":"heartbeat","timestamp":"next"}'))
        await client.expect(lambda got: b"MESSAGE_TOO_LARGE" in got[1])
        await client.expect_heartbeat("next")


@pytest.mark.parametrize("form", ["drip", "fragments", "half a ping"])
async def test_message_that_is_not_finished_in_time_ends_the_connection(
    server: ThreadServer, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(websocket_reading, "MESSAGE_SECONDS", 0.5)
    whole = frame(TEXT, b'{"type":"heartbeat","padding":"%b"}' % (b"x" * 10_000))
    drips = {
        "drip": [whole[position : position + 1] for position in range(10_000)],
        "fragments": [BEGINNING, *[frame(CONTINUATION, b" ", fin=False) + frame(PONG)] * 60],
        "half a ping": [frame(PING, b"x" * 100)[:50]],
    }
    async with RawClient(server) as client:
        await client.greeted()
        closing = asyncio.create_task(client.expect_close())
        for piece in drips[form]:
            client.writer.write(piece)
            await asyncio.sleep(0.03)
            if closing.done():
                break
        assert await closing == 4101


async def test_long_messages_in_a_row_are_no_unfinished_message(
    server: ThreadServer, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Each has its own time, also where every read ends in the middle of one."""
    settings.HPLUS_MESSAGES_PER_MINUTE = 0
    monkeypatch.setattr(websocket_reading, "MESSAGE_SECONDS", 2)
    one = frame(TEXT, b'{"type":"heartbeat","timestamp":"x","padding":"%b"}' % (b"x" * 30_000))
    stream = one * 40
    async with RawClient(server) as client:
        await client.greeted()
        for position in range(100, len(stream), len(one)):
            client.writer.write(stream[max(0, position - len(one)) : position])
            await asyncio.sleep(0.1)
        client.writer.write(stream[position:])
        for _ in range(40):
            await client.expect_heartbeat("x")


async def test_stranger_has_only_the_time_to_sign_in_whatever_arrives(
    server: ThreadServer, demo_is_over: Any, settings: Any
) -> None:
    settings.LOGIN_SECONDS = 1
    demo_is_over()
    async with RawClient(server, "userId=patient_123&role=patient") as client:
        await client.upgrade()
        closing = asyncio.create_task(received_until_close(client))
        while not closing.done():
            client.writer.write(frame(PING, b"still here"))
            await asyncio.sleep(0.5)
        received = await closing
        assert any(b"AUTHENTICATION_FAILED" in payload for _, payload in received)
        assert int.from_bytes(received[-1][1][:2]) == 4001


async def test_connections_that_await_a_login_are_limited_by_address(
    server: ThreadServer, demo_is_over: Any, settings: Any
) -> None:
    settings.LOGINS_PER_ADDRESS, settings.REFUSED_SOCKET_SECONDS = 2, 0.05
    demo_is_over()
    stranger = f"{server.socket_url}/?userId=patient_123&role=patient"
    first, _ = [await Phone(stranger).open() for _ in range(2)]
    third = await Phone(stranger).open()
    await third.expect_error("TOO_MANY_CONNECTIONS")
    assert await third.expect_close() == 4102
    await first.vanish()

    async def has_its_turn() -> bool:
        another = await Phone(stranger).open()
        await another.send("login", token="x")
        return (await another.expect("error"))["code"] == "AUTHENTICATION_FAILED"

    await until(has_its_turn)


# Who does not read


@contextlib.asynccontextmanager
async def a_full_reader(server: ThreadServer) -> AsyncIterator[tuple[RawClient, WebSocketProtocol]]:
    """A client that reads nothing more, and has been written all that the network takes."""
    client = RawClient(server)
    async with client:
        taken: socket.socket = client.writer.get_extra_info("socket")
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
        await client.greeted()
        protocol = await protocol_of(server)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        async with server.phone("doctor_123", "doctor", "hospital_001") as doctor:
            while protocol.is_writable:
                for _ in range(20):
                    room = {"receiverId": "patient_123", "hospitalId": "hospital_001"}
                    await doctor.send("sendMessage", **room, message=LONG)
                await doctor.echo()
        yield client, protocol


async def test_pongs_do_not_pile_up_for_who_reads_nothing(
    server: ThreadServer, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more is read of it either; when it reads again, the newest ping is answered."""
    settings.HPLUS_MESSAGES_PER_MINUTE = 0
    settings.OUTBOUND_FRAMES = 100_000
    settings.OUTBOUND_BYTES = 1024**3
    monkeypatch.setattr(websocket_reading, "_frames_of_a_client", lambda: Bucket(1e9, 1e9))
    async with a_full_reader(server) as (client, protocol):
        full = protocol.transport.get_write_buffer_size()
        for number in range(2000):
            client.writer.write(frame(PING, b"%d" % number + b"." * 100))
        await until(lambda: protocol._holds)
        assert protocol.transport.get_write_buffer_size() <= full
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        await client.expect(lambda got: got[0] == PONG and got[1].startswith(b"1999."))
        await until(lambda: not protocol._holds)


async def test_call_for_help_is_read_of_who_reads_nothing(server: ThreadServer, settings: Any) -> None:
    settings.HPLUS_MESSAGES_PER_MINUTE = 0
    settings.OUTBOUND_FRAMES = 100_000
    settings.OUTBOUND_BYTES = 1024**3
    async with a_full_reader(server) as (client, _):
        async with server.phone("nurse_001", "nurse", "hospital_001") as nurse:
            call = {"type": "emergencyRequest", **create_emergency_request(), "patientId": "patient_123"}
            client.writer.write(frame(TEXT, json.dumps(call).encode()))
            await nurse.expect("emergencyAlert")
        await calls_for_help(server)
