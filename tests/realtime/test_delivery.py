"""What must not be lost comes: in order, without a gap, and on one socket once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from chat import actions as chat
from chat.messages import SendMessage
from chat.models import Message
from chat.sending import send_all
from hplus import errors
from hplus.accounts.models import User
from hplus.protocol.wire import new_id
from hplus.realtime.actions import Command, Result
from hplus.realtime.execution.db_threads import in_db_thread
from hplus.realtime.models import Epoch, MailboxEntry
from hplus.realtime.publishing import publisher, replay
from tests.api import Api
from tests.phone import Phone
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS

HOSPITAL = "hospital_001"
TO_DOCTOR = {"receiverId": "doctor_123", "hospitalId": HOSPITAL}
TO_PATIENT = {"receiverId": "patient_123", "hospitalId": HOSPITAL}


def write(count: int, sender: str = "patient_123", receiver: str = "doctor_123", first: int = 0) -> None:
    """Messages sent without a socket, as over HTTP."""
    user = User.objects.get(pk=sender)
    texts = [f"Message {number}" for number in range(first, first + count)]
    commands = [
        Command(user, SendMessage(receiver_id=receiver, hospital_id=HOSPITAL, message=text)) for text in texts
    ]
    for start in range(0, count, 100):
        assert all(isinstance(outcome, Result) for outcome in send_all(commands[start : start + 100]))


def store_without_entry(text: str) -> None:
    """An undelivered message that no replay has: it comes UNDELIVERED_AFTER_SECONDS after the greeting."""
    message = Message.objects.earliest("id")
    message.pk, message.message_id, message.text, message.delivered_at = None, new_id(), text, None
    message._state.adding = True
    message.save()


def texts(phone: Phone) -> list[str]:
    return [frame["data"]["message"] for frame in phone.heard("newMessage")]


async def test_reconnect_with_since_replays_missed_events(server: ThreadServer) -> None:
    async with server.phone("doctor_123", "doctor", HOSPITAL) as doctor:
        epoch = doctor.established["epoch"]
        assert (doctor.established["lastSeq"], doctor.established["recovered"]) == (0, False)
        await in_db_thread(write, 2)
        seen = (await doctor.expect("newMessage", message="Message 1"))["seq"]
        assert seen == 2
    await in_db_thread(write, 3, "patient_123", "doctor_123", 2)
    await in_db_thread(store_without_entry, "Undelivered")
    async with server.phone("doctor_123", "doctor", HOSPITAL, since=seen, epoch=epoch) as again:
        assert (again.established["recovered"], again.established["lastSeq"]) == (True, 5)
        await in_db_thread(write, 1, "patient_123", "doctor_123", 5)
        await again.expect("newMessage", message="Message 5")
        await again.expect("newMessage", message="Undelivered")  # with it everything undelivered has come
        replayed = [frame for frame in again.heard("newMessage") if "seq" in frame]
        assert [frame["data"]["message"] for frame in replayed] == [f"Message {n}" for n in range(2, 6)]
        assert [frame["seq"] for frame in replayed] == [3, 4, 5, 6]
        assert len(again.heard("newMessage")) == 5
        # The same through the socket: sync says it all again, although this socket has had it.
        await again.send("sync", since=0, epoch=epoch, limit=4, requestId="s1")
        told = await again.expect("syncComplete")
        assert {key: told[key] for key in told if key != "type"} == {
            "from": 0,
            "to": 4,
            "recovered": True,
            "hasMore": True,
            "epoch": epoch,
        }
        assert (await again.expect("ack", requestId="s1"))["status"] == "ok"
        await again.send("sync", since=4, epoch=epoch)
        told = await again.expect("syncComplete")
        assert (told["to"], told["hasMore"], told["recovered"]) == (6, False, True)
        assert [frame["seq"] for frame in again.heard("newMessage")[5:]] == [1, 2, 3, 4, 5, 6]
        await again.send("sync", since=6, epoch=epoch)
        assert (await again.expect("syncComplete"))["to"] == 6
        for cursor in ({"since": 2, "epoch": "another"}, {"since": 7, "epoch": epoch}):
            await again.send("sync", **cursor)
            told = await again.expect("syncComplete")
            assert (told["recovered"], told["hasMore"], told["to"]) == (False, False, 6)
            assert told["epoch"] == epoch
    for cursor, recovered in [
        ({"since": 6, "epoch": epoch}, True),
        ({"since": 6}, True),
        ({"since": 6, "epoch": "another"}, False),
        ({"since": 7, "epoch": epoch}, False),
        ({"since": "abc", "epoch": epoch}, False),
        ({"since": -1, "epoch": epoch}, False),
        ({"since": 10**30, "epoch": epoch}, False),
    ]:
        async with server.phone("doctor_123", "doctor", HOSPITAL, **cursor) as phone:
            assert phone.established["recovered"] is recovered, cursor
    await MailboxEntry.objects.filter(seq__lte=3).adelete()  # past keeping
    async with server.phone("doctor_123", "doctor", HOSPITAL, since=2, epoch=epoch) as phone:
        assert phone.established["recovered"] is False
    async with server.phone("doctor_123", "doctor", HOSPITAL, since=3, epoch=epoch) as phone:
        assert phone.established["recovered"] is True
        await phone.expect("newMessage", seq=6)
    async with Api(server, "doctor_123") as doctor:
        missed = (await doctor.get("sync/", params={"since": 3, "epoch": epoch, "limit": 2})).json()
        assert [event["seq"] for event in missed["events"]] == [4, 5]
        assert missed["complete"]["hasMore"] is True
        assert (await doctor.get("sync/")).json()["details"]["field"] == "since"
    await Epoch.objects.all().adelete()  # a restore from a backup
    async with server.phone("doctor_123", "doctor", HOSPITAL, since=6, epoch=epoch) as phone:
        assert phone.established["recovered"] is False
        assert phone.established["epoch"] != epoch


async def test_replay_larger_than_the_outbound_queue_keeps_the_socket(
    server: ThreadServer, settings: Any
) -> None:
    """More than the outbox may hold at once: by cursor, after a moment, at joining, and by sync."""
    settings.OUTBOUND_FRAMES = 200
    for first in range(0, 300, 100):
        await in_db_thread(write, 100, "patient_123", "doctor_123", first)
    everything = [f"Message {number}" for number in range(300)]
    for query in ({}, {"since": 0}):
        async with server.phone("doctor_123", "doctor", HOSPITAL, **query) as doctor:
            await doctor.expect("newMessage", message="Message 299")
            assert texts(doctor) == everything
            assert doctor.close_code is None
    async with server.phone("doctor_123", "doctor", HOSPITAL) as doctor:
        await doctor.send("joinChatRoom", **TO_PATIENT)
        joined = await doctor.expect("chatRoomJoined")
        assert (joined["data"]["unreadCount"], len(joined["data"]["messages"])) == (300, 50)
        await doctor.expect("newMessage", message="Message 299")
        assert texts(doctor) == everything
        await doctor.send("sync", since=0, limit=250)
        assert (await doctor.expect("syncComplete"))["to"] == 250
        assert len(texts(doctor)) == 550
        assert doctor.close_code is None


async def test_unread_messages_are_delivered_after_their_entries_expired(server: ThreadServer) -> None:
    await in_db_thread(write, 2)
    await MailboxEntry.objects.all().aupdate(at=timezone.now() - timedelta(days=15))
    assert await in_db_thread(replay.delete_old_entries) == 4
    await in_db_thread(write, 1, "patient_123", "doctor_123", 2)
    told = ["Message 0", "Message 1", "Message 2"]
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
    ):
        await doctor.expect("newMessage", message="Message 2")
        assert texts(doctor) == told
        for _ in told:
            await patient.expect("messageDelivered")
        async with server.phone("doctor_123", "doctor", HOSPITAL) as screen:
            for _ in range(2):
                await screen.send("joinChatRoom", **TO_PATIENT)
            await screen.expect("newMessage", message="Message 2")
            await screen.echo()
            assert texts(screen) == told


async def test_client_ack_marks_messages_delivered(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
    ):
        await doctor.send("joinChatRoom", receiverId="test_user", hospitalId=HOSPITAL)
        await doctor.expect("chatRoomJoined")
        for number in range(3):
            await patient.send("sendMessage", **TO_DOCTOR, message=f"Message {number}")
        notices = [await doctor.expect("notification") for _ in range(3)]
        assert [notice["body"] for notice in notices] == ["Message 0", "Message 1", "Message 2"]
        async with server.phone("nurse_001", "nurse", HOSPITAL):
            later = await patient.ask("sendMessage", **TO_DOCTOR | {"receiverId": "nurse_001"}, message="Now")
            await patient.expect("messageDelivered", messageId=later["data"]["messageId"])
            assert len(patient.heard("messageDelivered")) == 1
        await doctor.send("ack", seq=notices[1]["seq"])
        await patient.expect("messageDelivered", messageId=notices[0]["data"]["messageId"])
        await patient.expect("messageDelivered", messageId=notices[1]["data"]["messageId"])
        await doctor.send("ack", seq=notices[2]["seq"] + 100)
        await doctor.send("ack", seq=notices[0]["seq"])
        await patient.expect("messageDelivered", messageId=notices[2]["data"]["messageId"])
        await patient.echo()
        assert len(patient.heard("messageDelivered")) == 4
        assert not doctor.heard("error")


async def test_repeated_message_is_stored_once(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("patient_123", "patient") as tablet,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
        Api(server, "patient_123") as http,
    ):
        hello = {**TO_DOCTOR, "message": "Hello", "clientMessageId": "c-1"}
        await patient.send("sendMessage", **hello, timestamp="2026-01-01T10:00:00.000")
        first = await patient.expect("ack", clientMessageId="c-1")
        assert (first["status"], first["requestType"], first["requestId"]) == ("ok", "sendMessage", None)
        assert set(first["data"]) == {"messageId", "chatRoomId", "timestamp"}
        # Five times in one batch, from another screen, over HTTP; the retry has a later clock.
        for _ in range(5):
            await patient.send("sendMessage", **hello, timestamp="2026-01-01T10:00:07.000")
        for _ in range(5):
            retry = await patient.expect("ack", clientMessageId="c-1")
            assert (retry["status"], retry["data"]) == ("duplicate", first["data"])
        retry = await tablet.ask("sendMessage", **hello)
        assert (retry["status"], retry["data"]) == ("duplicate", first["data"])
        answer = await http.post("chat/messages/", json=hello)
        assert (answer.status_code, answer.json()["status"]) == (200, "duplicate")
        assert answer.json()["data"] == first["data"]
        for other in (
            {"message": "Other"},
            {"receiverId": "nurse_001"},
            {"replyTo": None, "priority": "urgent"},
        ):
            answer = await patient.ask("sendMessage", **{**hello, **other})
            assert (answer["type"], answer["code"]) == ("error", "IDEMPOTENCY_CONFLICT")
        assert (await http.post("chat/messages/", json={**hello, "message": "Other"})).status_code == 409
        # Another user's c-1 is another message.
        await doctor.send("sendMessage", **TO_PATIENT, message="Hello to you", clientMessageId="c-1")
        assert (await doctor.expect("ack", clientMessageId="c-1"))["status"] == "ok"
        for phone in (doctor, tablet):
            await phone.expect("newMessage", message="Hello to you")
        heard = await patient.expect("newMessage", message="Hello to you")
        assert heard["data"]["clientMessageId"] == "c-1"
        assert texts(doctor) == texts(tablet) == ["Hello", "Hello to you"]
        # The ack got lost, and meanwhile nobody may write to the doctor any more: it was sent all the same.
        await User.objects.filter(pk="doctor_123").aupdate(is_active=False)
        late = await patient.ask("sendMessage", **hello)
        assert (late["status"], late["data"]) == ("duplicate", first["data"])
        refusal = await patient.ask("sendMessage", **{**hello, "clientMessageId": "c-9"})
        assert refusal["code"] == "USER_NOT_FOUND"
        assert await Message.objects.acount() == 2


async def test_message_repeated_in_one_batch_or_on_two_servers_is_stored_once(
    server: ThreadServer,
) -> None:
    patient = await User.objects.aget(pk="patient_123")

    def request(text: str) -> Command:
        asked = SendMessage(
            receiver_id="doctor_123", hospital_id=HOSPITAL, message=text, client_message_id="c-2"
        )
        return Command(patient, asked)

    first, again, conflict = await in_db_thread(send_all, [request("Hi"), request("Hi"), request("Ho")])
    assert (first.is_duplicate, again.is_duplicate, first.ack_data) == (False, True, again.ack_data)
    assert isinstance(conflict, errors.IdempotencyConflict)

    def send(number: int) -> Result:
        try:
            asked = SendMessage(
                receiver_id="doctor_123",
                hospital_id=HOSPITAL,
                message="All at once",
                client_message_id=f"c-{number}",
            )
            return chat.send(patient, asked)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as servers:
        answers = await asyncio.to_thread(lambda: list(servers.map(send, [3 + i // 6 for i in range(30)])))
    assert len({answer.ack_data["messageId"] for answer in answers if answer.ack_data}) == 5
    assert [answer.is_duplicate for answer in answers].count(False) == 5
    assert await Message.objects.acount() == 6


class Silence(publisher.Publisher):
    """A channel layer that loses everything."""

    def publish_deliveries(self, deliveries: list[publisher.Delivery]) -> None:
        return


@contextmanager
def nothing_announced() -> Iterator[None]:
    speaking = publisher._current
    assert speaking is not None
    publisher.set_publisher(Silence(speaking.loop))
    try:
        yield
    finally:
        publisher.set_publisher(speaking)


async def test_lost_wake_up_is_repaired_by_reconciliation(
    quick_reconciliation: None, server: ThreadServer, settings: Any
) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
    ):
        with nothing_announced():
            await patient.send("sendMessage", **TO_DOCTOR, message="Into the void", requestId="r1")
            assert (await patient.expect("ack", requestId="r1"))["status"] == "ok"
            await doctor.expect("newMessage", message="Into the void")  # by a reconciliation
            await patient.expect("messageDelivered")
            await patient.send("sendMessage", **TO_DOCTOR, message="Again", requestId="r2")
            await patient.expect("ack", requestId="r2")
        # The next one that does come shows that one is missing; both come, in order.
        settings.RECONCILE_SECONDS = 10 * PATIENCE_SECONDS
        await patient.send("sendMessage", **TO_DOCTOR, message="And aloud")
        await doctor.expect("newMessage", message="And aloud")
        assert texts(doctor) == texts(patient) == ["Into the void", "Again", "And aloud"]
        seqs = [frame["seq"] for frame in patient.history if "seq" in frame]
        assert seqs == sorted(set(seqs))


@pytest.mark.parametrize("sockets", [3])
async def test_burst_of_messages_keeps_its_order_on_every_socket(
    server: ThreadServer, settings: Any, sockets: int
) -> None:
    settings.HPLUS_MESSAGES_PER_MINUTE = 0
    async with server.phone("patient_123", "patient") as patient:
        doctors = [await server.phone("doctor_123", "doctor", HOSPITAL).__aenter__() for _ in range(sockets)]
        for number in range(100):
            await patient.send("sendMessage", **TO_DOCTOR, message=f"Message {number}")
            if number % 10 == 0:
                await doctors[0].send("joinChatRoom", **TO_PATIENT)
        for phone in (*doctors, patient):
            await phone.expect("newMessage", message="Message 99")
            assert texts(phone) == [f"Message {number}" for number in range(100)]
        for _ in range(100):
            await patient.expect("messageDelivered")
        for phone in doctors:
            await phone.hang_up()


async def test_backlog_without_wake_ups_is_delivered_at_the_readers_pace(
    server: ThreadServer, settings: Any
) -> None:
    """More entries than the outbound queue holds, fetched at once: the client gets all, in order."""
    settings.OUTBOUND_FRAMES = 200
    async with server.phone("doctor_123", "doctor", HOSPITAL) as doctor:
        with nothing_announced():
            for first in range(0, 500, 100):
                await in_db_thread(write, 100, "patient_123", "doctor_123", first)
        await doctor.expect("newMessage", message="Message 499")
        assert texts(doctor) == [f"Message {number}" for number in range(500)]
        assert doctor.close_code is None


async def test_buffered_messages_keep_their_order_when_sending_joins_a_room(server: ThreadServer) -> None:
    """What is held while the first message is sent comes in its place, not early as unread."""
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
    ):
        for number in range(30):
            await doctor.send("sendMessage", **TO_PATIENT, message=f"To you {number}")
            await patient.send("sendMessage", **TO_DOCTOR, message=f"To me {number}")
        for phone in (patient, doctor):
            await phone.expect("newMessage", message="To you 29")
            await phone.expect("newMessage", message="To me 29")
        stored = [text async for text in Message.objects.order_by("id").values_list("text", flat=True)]
        assert texts(patient) == stored
        assert texts(doctor) == stored
