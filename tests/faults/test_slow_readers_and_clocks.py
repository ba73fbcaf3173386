"""Clients that do not read, that were away for long, whose clock is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest

from tests.fault_report import note
from tests.faults.deployment import Deployment
from tests.faults.reconnecting_client import HOSPITAL, ClientPairs, wrong_clocks
from tests.servers import ProcessServer
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.faults
LONG = "long " * 1590  # nearly as long as a message may be
BOUND_BYTES = 120 * 1024 * 1024


async def test_client_that_never_reads_is_closed_and_others_are_unaffected(deployment: Deployment) -> None:
    """It is closed with 4103, the server's memory stays bounded, the others get their messages."""
    [server] = deployment.serve()
    pairs = ClientPairs.of(deployment, 24, lambda: server.port, "reader")
    process = psutil.Process(server.process.pid)
    async with pairs.connected():
        await pairs.probe()
        before = process.memory_info().rss
        slow = await _shake_hands(server, "slow", "patient")
        async with several_write(server, "slow", 480, LONG) as written:
            while not written.done():
                await pairs.probe()
                await asyncio.sleep(0.3)  # so that the writers get on
                assert process.memory_info().rss - before < BOUND_BYTES
        await pairs.probe()
        assert process.memory_info().rss - before < BOUND_BYTES
        assert await asyncio.to_thread(_close_code_of, slow) == 4103
    found = pairs.report()
    note("one reader in fifty never reads", lost=len(found.lost), duplicated=len(found.duplicated))
    found.must_be_clean()


@contextlib.asynccontextmanager
async def several_write(
    server: ProcessServer, to: str, count: int, text: str
) -> AsyncIterator[asyncio.Future[Any]]:
    """Eight nurses write at once, so that they share transactions; each numbers the messages."""

    async def write(number: int) -> None:
        async with server.phone(f"writer.{number}", "nurse", HOSPITAL) as phone:
            for place in range(count // 8):
                numbered = f"{number}.{place} {text}"
                await phone.send("sendMessage", receiverId=to, hospitalId=HOSPITAL, message=numbered)
                if place % 20 == 19:
                    await phone.echo()
            await phone.echo()

    work = asyncio.gather(*(write(number) for number in range(8)))
    yield work
    await work


def must_be_whole(frames: list[dict[str, Any]], count: int) -> tuple[int, int]:
    """Each writer's messages are in order. Returns how many are missing and how many came twice."""
    numbers = [frame["data"]["message"].split()[0] for frame in frames]
    for number in range(8):
        own = [int(other.split(".")[1]) for other in numbers if other.startswith(f"{number}.")]
        assert own == sorted(own)
    return count - len(set(numbers)), len(numbers) - len(set(numbers))


async def _shake_hands(server: ProcessServer, user_id: str, role: str) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    client.sendall(
        f"GET /?userId={user_id}&role={role} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    client.settimeout(PATIENCE_SECONDS)
    assert await asyncio.to_thread(client.recv, 12) == b"HTTP/1.1 101"
    return client


def _close_code_of(client: socket.socket) -> int:
    """Read everything at last: the frames, and the close frame behind them."""
    received = b""
    with contextlib.suppress(OSError):
        while chunk := client.recv(1 << 20):
            received += chunk
            if received[-4:-2] == b"\x88\x02":
                break
    assert received[-4:-2] == b"\x88\x02", "no close frame"
    return int.from_bytes(received[-2:])


async def test_long_absence_is_replayed_completely_and_in_order(deployment: Deployment) -> None:
    """More than the outbound queue of a connection holds, by number and by size."""
    [server] = deployment.serve()
    for user_id, count, text in (("away.many", 1056, "x"), ("away.long", 240, LONG)):
        async with server.phone(user_id, "patient") as patient:
            begin = patient.established
        async with several_write(server, user_id, count, text):
            pass
        cursor = {"since": begin["lastSeq"], "epoch": begin["epoch"]}
        async with server.phone(user_id, "patient", **cursor) as patient:
            assert patient.established["recovered"]
            await until(lambda: len(patient.heard("newMessage")) >= count)  # noqa: B023
            await patient.echo()
            lost, duplicated = must_be_whole(patient.heard("newMessage"), count)
        note("thousands of messages missed", lost=lost, duplicated=duplicated)
        assert (lost, duplicated) == (0, 0)
        async with server.phone(user_id, "patient") as patient:
            since, has_more = cursor["since"], True
            while has_more:
                await patient.send("sync", since=since, epoch=cursor["epoch"], limit=1000)
                page = await patient.expect("syncComplete")
                since, has_more = page["to"], page["hasMore"]
            assert must_be_whole(patient.heard("newMessage"), count) == (0, 0)


async def test_reconnect_with_since_gets_nothing_twice(deployment: Deployment) -> None:
    """Also not what the old connection got right before it broke, and never acknowledged."""
    [server] = deployment.serve()
    async with server.phone("doctor_123", "doctor", HOSPITAL) as doctor:
        patient = await server.phone("again", "patient").__aenter__()
        begin = patient.established
        for text in ("undelivered", "received"):
            await doctor.send("sendMessage", receiverId="again", hospitalId=HOSPITAL, message=text)
            since = (await patient.expect("newMessage", message=text))["seq"]
            await doctor.expect("messageDelivered")
        await patient.vanish()
    deployment.execute("UPDATE chat_message SET delivered_at = NULL WHERE receiver_id = 'again'")
    # Without its mailbox entry the first is known as undelivered only: it comes when those are looked for.
    deployment.execute("DELETE FROM realtime_mailboxentry WHERE user_id = 'again' AND seq < %s", since)
    async with server.phone("again", "patient", since=since, epoch=begin["epoch"]) as patient:
        assert patient.established["recovered"]
        await patient.expect("newMessage", message="undelivered")
        assert len(patient.heard("newMessage")) == 1
    undelivered = "SELECT 1 FROM chat_message WHERE receiver_id = 'again' AND delivered_at IS NULL"
    await until(lambda: not deployment.query(undelivered))


@pytest.mark.parametrize(
    ("since", "epoch"), [("10000", None), ("0", "another"), ("9" * 18, None), ("9" * 300, None)]
)
async def test_unknown_cursor_is_not_recovered(deployment: Deployment, since: str, epoch: str | None) -> None:
    server = deployment.servers[0] if deployment.servers else deployment.serve()[0]
    async with server.phone("patient_123", "patient", since=since, epoch=epoch) as patient:
        assert patient.established["recovered"] is False
        await patient.echo()


async def test_wrong_client_clock_does_not_change_message_order(deployment: Deployment) -> None:
    """A day early, a day late, years 1 and 9999: the order is that of arrival."""
    [server] = deployment.serve()
    clocks = [*wrong_clocks(), "-1"]
    async with (
        server.phone("clock", "patient") as patient,
        server.phone("doctor_456", "doctor", HOSPITAL) as doctor,
    ):
        for number, clock in enumerate(clocks * 2):
            sent = {
                "receiverId": "doctor_456",
                "hospitalId": HOSPITAL,
                "message": str(number),
                "timestamp": clock,
            }
            assert (await patient.ask("sendMessage", **sent))["type"] == "ack"
        await doctor.expect("newMessage", message=str(len(clocks) * 2 - 1))
        received = [frame["data"] for frame in doctor.heard("newMessage")]
        messages = [data for data in received if data["senderId"] == "clock"]  # the demo left one unread
        assert [data["message"] for data in messages] == [str(n) for n in range(len(clocks) * 2)]
        assert [data["clientTimestamp"] for data in messages] == clocks * 2
        assert messages == sorted(messages, key=lambda data: data["timestamp"])
    note("messages by wrong clocks", rounds=len(clocks), lost=len(clocks) * 2 - len(messages))
