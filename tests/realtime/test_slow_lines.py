"""A slow line: what is urgent overtakes, and what waits for somebody is read in pages, once and in order."""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect

from chat.messages import SendMessage
from chat.sending import send_all
from hplus.accounts.models import User
from hplus.realtime.actions import Command, Result
from hplus.realtime.connection.client import Client
from hplus.realtime.execution.db_threads import in_db_thread
from hplus.realtime.hub import hub as hubs
from hplus.realtime.models import Epoch
from tests.phone import Phone
from tests.servers import ThreadServer
from tests.waiting import until

HOSPITAL = "hospital_001"
LONG = "x" * 7_990
HELP = {
    "patientId": "test_user",
    "hospitalId": HOSPITAL,
    "location": {"lat": 37.0, "lng": -122.0},
    "condition": "Chest pain",
    "priority": "critical",
}
AHEAD_BYTES = 256 * 1024  # what this machine's sockets and the server have taken before an alert comes


class SlowPhone(Phone):
    """Reads one frame after another, and only when it is let; its socket takes little ahead."""

    async def open(self) -> SlowPhone:
        at = urlsplit(self.url)
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.setblocking(False)
        await asyncio.get_running_loop().sock_connect(line, (at.hostname, at.port))
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._socket = await connect(
            self.url, sock=line, compression=None, max_size=None, max_queue=1, ping_interval=None
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def _note(self, frame: Any) -> None:
        await super()._note(frame)
        await self._may_read.wait()

    def stall(self) -> None:
        self._may_read.clear()

    def read_on(self) -> None:
        self._may_read.set()


def slow_doctor(server: ThreadServer, **query: Any) -> SlowPhone:
    return SlowPhone(server.socket_url, userId="doctor_123", role="doctor", hospitalId=HOSPITAL, **query)


def write(count: int, text: str, first: int = 0) -> None:
    """Store messages, as over HTTP."""
    user = User.objects.get(pk="patient_123")
    numbered = [f"{number} {text}" for number in range(first, first + count)]
    commands = [
        Command(user, SendMessage(receiver_id="doctor_123", hospital_id=HOSPITAL, message=message))
        for message in numbered
    ]
    for start in range(0, count, 100):
        assert all(isinstance(outcome, Result) for outcome in send_all(commands[start : start + 100]))


def only_client() -> Client:
    """Return the only connection, on the server's side."""
    assert hubs._current is not None
    [client] = hubs._current.clients
    assert isinstance(client, Client)
    return client


def numbers(phone: Phone) -> list[int]:
    frames = [frame for frame in phone.history if frame["type"] == "newMessage"]
    return [int(frame["data"]["message"].split()[0]) for frame in frames]


async def test_alert_overtakes_long_messages_that_wait_for_a_slow_reader(server: ThreadServer) -> None:
    doctor = await slow_doctor(server).open()
    await doctor.expect("connection_established")
    doctor.stall()
    await in_db_thread(write, 100, LONG)
    async with server.phone("test_user", "patient") as caller:
        await caller.ask("emergencyRequest", **HELP)
    await in_db_thread(write, 20, LONG, 100)
    doctor.read_on()
    alert = await doctor.expect("emergencyAlert")
    before = [frame for frame in doctor.history[: doctor.history.index(alert)] if "seq" in frame]
    assert sum(len(str(frame)) for frame in before) < AHEAD_BYTES
    assert "seq" not in alert
    assert alert["eventId"]
    await doctor.expect_that(lambda frame: str(frame.get("message", "")).startswith("119 "), "the last one")
    assert numbers(doctor) == list(range(120))
    seqs = [frame["seq"] for frame in doctor.history if "seq" in frame]
    assert seqs == sorted(set(seqs))
    assert len([frame for frame in doctor.history if frame["type"] == "emergencyAlert"]) == 1
    await doctor.hang_up()


async def test_alert_that_overtook_comes_again_after_a_cursor_before_it(server: ThreadServer) -> None:
    doctor = await slow_doctor(server).open()
    epoch = (await doctor.expect("connection_established"))["epoch"]
    doctor.stall()
    await in_db_thread(write, 100, LONG)
    async with server.phone("test_user", "patient") as caller:
        await caller.ask("emergencyRequest", **HELP)
    doctor.read_on()
    alert = await doctor.expect("emergencyAlert")
    had = [frame["seq"] for frame in doctor.history if "seq" in frame]
    await doctor.vanish()
    query = {"since": had[-1], "epoch": epoch}
    async with server.phone("doctor_123", "doctor", HOSPITAL, **query) as again:
        assert again.established["recovered"]
        repeated = await again.expect("emergencyAlert")
        assert repeated["eventId"] == alert["eventId"]
        await again.expect_that(lambda frame: frame.get("message") == f"99 {LONG}", "the last one")
        assert numbers(again) == list(range(len(had), 100))


@pytest.mark.parametrize("has_cursor", [True, False])
async def test_thousands_of_long_messages_come_in_pages_once_and_in_order(
    server: ThreadServer, settings: Any, has_cursor: bool
) -> None:
    """No more than a page waits for the reader, whatever there is."""
    settings.OUTBOUND_BYTES = 3 * settings.PAGE_BYTES
    await in_db_thread(write, 1_000, LONG)
    query = {"since": 0, "epoch": await in_db_thread(Epoch.current)} if has_cursor else {}
    doctor = await slow_doctor(server, **query).open()
    await doctor.expect_that(lambda frame: frame.get("message") == f"20 {LONG}", "some")
    doctor.stall()
    client = only_client()
    await until(lambda: client.outbound._bytes > 0)
    await in_db_thread(write, 50, LONG, 1_000)
    async with server.phone("test_user", "patient") as caller:
        await caller.ask("emergencyRequest", **HELP)
    assert client.outbound._bytes < settings.OUTBOUND_BYTES
    doctor.read_on()
    alert = await doctor.expect("emergencyAlert")
    assert len(numbers(doctor)) < 900
    assert alert["data"]["patientId"] == "test_user"
    await doctor.expect_that(lambda frame: frame.get("message") == f"999 {LONG}", "the last one that waited")
    await doctor.expect_that(lambda frame: frame.get("message") == f"1049 {LONG}", "the last one")
    assert sorted(numbers(doctor)) == list(range(1_050))
    waited = [number for number in numbers(doctor) if number < 1_000]
    assert waited == sorted(waited)
    if has_cursor:
        assert numbers(doctor) == list(range(1_050))
    await doctor.hang_up()
