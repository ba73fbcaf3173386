"""Who leaves while a message is being stored gets it on the connection or by a push, never neither."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from django.conf import settings
from django.db import connection

from chat.actions import open_room
from chat.models import Message
from hplus.accounts.models import Session, User
from hplus.push.actions import register
from hplus.push.models import PushOutbox
from hplus.realtime.hub import presence
from hplus.realtime.models import Connection, Mailbox, ServerProcess
from tests.servers import ThreadServer, connect_directly
from tests.waiting import until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"), reason="PostgreSQL only"),
]
ROOM = {"receiverId": "doctor_123", "hospitalId": "hospital_001"}


@pytest.fixture
def held_room(users: dict[str, User]) -> Iterator[Callable[[], Awaitable[None]]]:
    """The room of patient_123 and doctor_123, locked: a message into it waits until this is called."""
    open_room(users["patient_123"], "doctor_123", "hospital_001")
    Mailbox.objects.get_or_create(pk="doctor_123")
    register(Session.objects.create(user=users["doctor_123"]), "the doctor's phone")
    with connect_directly() as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT FROM chat_chatroom FOR UPDATE")
        yield lambda: asyncio.to_thread(holder.execute, "COMMIT")


async def send_into(server: ThreadServer, while_it_waits: Callable[[], Awaitable[None]]) -> None:
    """Send the doctor a message, and do this while it waits for the lock of the room."""
    async with server.phone("patient_123", "patient") as patient:
        await patient.send("sendMessage", **ROOM, message="Are you there?", requestId="one")
        await until(lambda: asyncio.to_thread(a_statement_waits))
        await while_it_waits()
        await patient.expect("ack", requestId="one")
    assert await asyncio.to_thread(Message.objects.count) == 1


def a_statement_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND query LIKE '%json_to_recordset($1%'"
        )
        return cursor.fetchone() is not None


async def test_receiver_who_leaves_this_server_meanwhile_gets_a_push(
    server: ThreadServer, held_room: Callable[[], Awaitable[None]]
) -> None:
    async with server.phone("doctor_123", "doctor", "hospital_001") as doctor:

        async def leave() -> None:
            await doctor.hang_up()
            await until(lambda: asyncio.to_thread(is_offline, "doctor_123"))
            await held_room()

        await send_into(server, leave)
    assert await asyncio.to_thread(PushOutbox.objects.count) == 1


async def test_receiver_who_leaves_another_server_meanwhile_gets_a_push(
    server: ThreadServer, users: dict[str, User], held_room: Callable[[], Awaitable[None]]
) -> None:
    elsewhere = await asyncio.to_thread(ServerProcess.objects.create, host="another", pid=1)
    row = Connection(server=elsewhere, user=users["doctor_123"], role="doctor", hospital="hospital_001")
    await asyncio.to_thread(presence.register, row)

    async def leave() -> None:
        await asyncio.to_thread(presence.depart, row, is_clean=True)
        await held_room()

    await send_into(server, leave)
    assert await asyncio.to_thread(PushOutbox.objects.count) == 1


async def test_receiver_who_stays_gets_no_push(
    server: ThreadServer, held_room: Callable[[], Awaitable[None]]
) -> None:
    async with server.phone("doctor_123", "doctor", "hospital_001") as doctor:
        await send_into(server, held_room)
        await doctor.expect("newMessage", message="Are you there?")
        assert not await asyncio.to_thread(PushOutbox.objects.exists)


def is_offline(user_id: str) -> bool:
    return not Connection.objects.filter(user=user_id).exists()
