"""Who can write to Redis reads nothing, shows nobody anything, closes nothing and keeps nothing back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import msgpack
import psycopg
import pytest
import pytest_asyncio
import redis.asyncio
from django.conf import settings

from hplus.accounts.models import User
from hplus.realtime.models import Installation, Mailbox
from tests.fault_report import note
from tests.servers import ROOT, Endpoint, ProcessServer
from tests.services import Postgres
from tests.waiting import PATIENCE_SECONDS, until

HOSPITAL = "hospital_001"
DOCTOR, PATIENT = ("doctor_123", "doctor", HOSPITAL), ("patient_123", "patient")
TO_PATIENT = {"receiverId": "patient_123", "hospitalId": HOSPITAL}
TO_DOCTOR = {"receiverId": "doctor_123", "hospitalId": HOSPITAL}
TEXT = "The biopsy is benign"
OLD, NEW = "3xq8Zr5vKd0LwTn7YbGh2sPfJm9cUa4eRi6oQy1t" * 2, "t1yQo6iRe4aUc9mJfPs2hGbY7nTwL0dKv5rZ8qx3" * 2


class Stranger:
    """Somebody who reads and writes everything in Redis."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self.recorded: list[tuple[bytes, bytes]] = []

    async def record_forever(self) -> None:
        async with self._client.pubsub() as listener:
            await listener.psubscribe("*")
            async for message in listener.listen():
                if message["type"] == "pmessage":
                    self.recorded.append((message["channel"], message["data"]))

    async def write(self, event_type: str, frame: dict[str, Any], **fields: Any) -> None:
        """Publish an event to a person, on every channel of persons there is."""
        envelope = {"event_type": event_type, "frame": json.dumps(frame), "subject": "", "topic": ""}
        envelope |= {"author": "", "event_id": "", "seqs": [], "but": [], **fields}
        message = {"type": "deliveries", "origin": "x", "is_server": True, "group": "persons"}
        forged = msgpack.packb({**message, "deliveries": [("patient_123", envelope)]})
        for channel in await self._client.pubsub_channels("*persons"):
            await self._client.publish(channel, forged)

    async def repeat(self) -> None:
        """Publish all that was recorded once more."""
        for channel, data in tuple(self.recorded):
            await self._client.publish(channel, data)


@pytest_asyncio.fixture
async def stranger() -> AsyncIterator[Stranger]:
    async with redis.asyncio.Redis.from_url(settings.REDIS_URL) as client:
        someone = Stranger(client)
        recording = asyncio.create_task(someone.record_forever())
        yield someone
        recording.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await recording


@pytest.fixture
def two(users: dict[str, User]) -> Iterator[tuple[ProcessServer, ProcessServer]]:
    with ProcessServer() as first, ProcessServer() as second:
        yield first, second


async def dropped(server: Endpoint, reason: str) -> float:
    """How many messages of Redis this server has dropped for this reason."""
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        lines = (await client.get(f"{server.url}/metrics")).text.splitlines()
    name = f'hplus_layer_dropped_total{{reason="{reason}"}} '
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def has_dropped(server: Endpoint, reason: str) -> Callable[[], Awaitable[bool]]:
    async def has() -> bool:
        return await dropped(server, reason) > 0

    return has


async def test_reader_of_redis_sees_neither_texts_nor_people(
    two: tuple[ProcessServer, ProcessServer], stranger: Stranger
) -> None:
    one, other = two
    async with one.phone(*DOCTOR) as doctor, other.phone(*PATIENT) as patient:
        await doctor.send("sendMessage", **TO_PATIENT, message=TEXT)
        await patient.expect("newMessage", message=TEXT)
        await until(lambda: sum(len(data) for _, data in stranger.recorded) > 2 * len(TEXT))
    seen = b"".join(channel + data for channel, data in stranger.recorded)
    note("texts readable in Redis", let_in=seen.count(TEXT.encode()))
    assert not [
        name for name in (TEXT, "doctor_123", "patient_123", HOSPITAL, "newMessage") if name.encode() in seen
    ]


async def test_forged_event_is_not_shown_and_keeps_no_true_one_back(
    two: tuple[ProcessServer, ProcessServer], stranger: Stranger
) -> None:
    """Forged under the next `seq`, so that the true one would look like a repetition."""
    one, other = two
    async with one.phone(*DOCTOR) as doctor, other.phone(*PATIENT) as patient:
        box = await Mailbox.objects.aget(pk="patient_123")
        places = [("patient_123", box.last_seq + number) for number in (1, 2, 3)]
        for place in places:
            frame = {"type": "newMessage", "data": {"message": "Stop the medication"}}
            await stranger.write("newMessage", frame, event_id="e", seqs=[place])
        await doctor.send("sendMessage", **TO_PATIENT, message=TEXT)
        await patient.expect("newMessage", message=TEXT)
        shown = [frame["data"]["message"] for frame in patient.heard("newMessage")]
        note("events forged in Redis", let_in=shown.count("Stop the medication"))
        assert shown == [TEXT]
    await until(has_dropped(other, "forged"))


async def test_forged_and_repeated_sign_out_close_nothing(
    two: tuple[ProcessServer, ProcessServer], stranger: Stranger
) -> None:
    one, other = two
    async with one.phone(*PATIENT) as first, other.phone(*PATIENT) as second:
        await first.send("logout", allDevices=True)
        await second.expect_error("SESSION_REVOKED")
    async with other.phone(*PATIENT) as again:
        await stranger.write("signedOut", {"type": "signedOut"})
        await until(has_dropped(other, "forged"))
        await stranger.repeat()
        await until(has_dropped(other, "repeated"))
        await again.send("heartbeat", timestamp="still here")
        await again.expect("heartbeat", timestamp="still here")
        note("connections closed through Redis", let_in=len(again.heard("error")))
        assert not again.heard("error")


async def test_dropped_message_is_in_the_log_and_in_health(
    two: tuple[ProcessServer, ProcessServer], stranger: Stranger
) -> None:
    one, _ = two
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        assert (await client.get(f"{one.url}/health/")).json()["warnings"] == []
        await stranger.write("signedOut", {"type": "signedOut"})
        await until(has_dropped(one, "forged"))
        answer = await client.get(f"{one.url}/health/")
    assert (answer.status_code, answer.json()["warnings"]) == (200, ["redis"])
    await until(lambda: b"1 messages of Redis dropped, the last as forged" in one.log)


async def test_servers_understand_each_other_while_the_key_is_changed(users: dict[str, User]) -> None:
    """One still has the old key and knows the new one, the other has the new one and knows the old one."""
    with (
        ProcessServer(SECRET_KEY=OLD, SECRET_KEY_FALLBACKS=NEW) as before,
        ProcessServer(SECRET_KEY=NEW, SECRET_KEY_FALLBACKS=OLD) as after,
    ):
        async with before.phone(*DOCTOR) as doctor, after.phone(*PATIENT) as patient:
            await doctor.ask("joinChatRoom", **TO_PATIENT)
            await patient.ask("joinChatRoom", **TO_DOCTOR)
            await doctor.send("typing", **TO_PATIENT, isTyping=True)
            await patient.expect("typing", isTyping=True)
            await patient.send("typing", **TO_DOCTOR, isTyping=True)
            await doctor.expect("typing", isTyping=True)
        assert [await dropped(server, "forged") for server in (before, after)] == [0, 0]


# Another installation on the same Redis


class OtherInstallation:
    """A hospital of its own with the same people, on a database of its own and the same Redis."""

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres
        self.manage("migrate", "--verbosity", "0")
        self.manage("seed_demo", "--verbosity", "0")

    def manage(self, *arguments: str) -> None:
        environment = {**os.environ, "DATABASE_URL": self.postgres.url}
        command = [sys.executable, "manage.py", *arguments]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)

    def serve(self, **environment: str) -> ProcessServer:
        """On another database number of Redis, which pub/sub does not know."""
        number = settings.REDIS_URL.rpartition("/")[0] + "/5"
        return ProcessServer(None, **{"DATABASE_URL": self.postgres.url, "REDIS_URL": number, **environment})

    def take_name(self, installation_id: str) -> None:
        """As a restored copy has it."""
        with psycopg.connect(self.postgres.url) as connection:
            connection.execute("DELETE FROM realtime_installation")
            insert = "INSERT INTO realtime_installation (id, installation_id) VALUES (1, %s)"
            connection.execute(insert, (installation_id,))


@pytest.fixture(scope="module")
def other_installation() -> Iterator[OtherInstallation]:
    with Postgres(durable=False) as postgres:
        yield OtherInstallation(postgres)


async def nobody_there_hears(here: tuple[ProcessServer, ProcessServer], there: Endpoint) -> None:
    """A sign-out here closes the other connection of that person, and none of the same name there."""
    one, other = here
    async with (
        one.phone(*PATIENT) as first,
        other.phone(*PATIENT) as second,
        there.phone(*PATIENT) as stranger,
    ):
        await first.send("logout", allDevices=True)
        await second.expect_error("SESSION_REVOKED")
        async with one.phone(*DOCTOR) as doctor, other.phone(*PATIENT) as patient:
            await doctor.send("sendMessage", **TO_PATIENT, message=TEXT)
            await patient.expect("newMessage", message=TEXT)
        await stranger.send("heartbeat", timestamp="after")
        await stranger.expect("heartbeat", timestamp="after")
        heard = [*stranger.heard("error"), *stranger.heard("newMessage")]
        let_in = [frame for frame in heard if frame["type"] == "error" or TEXT in str(frame)]
        note("events of another installation", let_in=len(let_in))
        assert not let_in


async def test_two_installations_on_one_redis_do_not_hear_each_other(
    two: tuple[ProcessServer, ProcessServer], other_installation: OtherInstallation
) -> None:
    with other_installation.serve() as there:
        await nobody_there_hears(two, there)
        assert [await dropped(server, "forged") for server in (*two, there)] == [0, 0, 0]


async def test_restored_copy_with_another_key_hears_nothing(
    two: tuple[ProcessServer, ProcessServer], other_installation: OtherInstallation
) -> None:
    """It has the same name, so the messages arrive, and none can be opened."""
    other_installation.take_name(await asyncio.to_thread(Installation.current))
    with other_installation.serve(SECRET_KEY=NEW) as copy:
        await nobody_there_hears(two, copy)
        await until(has_dropped(copy, "forged"))
