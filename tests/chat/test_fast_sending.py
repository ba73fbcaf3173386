"""The fast path of sendMessage against the ordinary action: the same cases both ways, the same answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.utils import timezone

from chat.actions import open_room
from chat.consumers import FAST_DELIVERED, FAST_SENDING
from chat.messages import NewMessage, SendMessage
from chat.models import ChatRoom, Message
from chat.sending import send_all
from hplus import errors
from hplus.accounts.models import Session, User
from hplus.push.actions import register
from hplus.push.models import PushOutbox
from hplus.realtime.actions import Command, Result
from hplus.realtime.models import Connection, Mailbox, MailboxEntry, ServerProcess
from hplus.realtime.publishing import publisher
from hplus.realtime.publishing.envelopes import Delivery, envelope_of

needs_postgresql = pytest.mark.skipif(
    django_settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"),
    reason="hot statements are PostgreSQL's",
)
pytestmark = [pytest.mark.django_db(transaction=True), needs_postgresql]
HOSPITAL = "hospital_001"


@pytest.fixture
def deliveries(monkeypatch: pytest.MonkeyPatch) -> list[Delivery]:
    """What is published, whichever way."""
    published: list[Delivery] = []
    monkeypatch.setattr(publisher, "publish_in_loop", published.extend)
    monkeypatch.setattr(publisher, "publish", published.extend)
    return published


def fly(statement: Any, rows: list[dict[str, Any]]) -> list[tuple[bytes | None, ...]]:
    """Run a hot statement as the hot connection does; columns come back as text."""
    with connection.cursor() as cursor:
        cursor.execute(statement.sql.replace("%", "%%").replace("$1", "%s"), [json.dumps(rows)])
        found = cursor.fetchall()
    return [tuple(None if value is None else str(value).encode() for value in row) for row in found]


def send_fast(*commands: Command) -> list[Result | None]:
    """What the fast path makes of them; None for what it leaves to the ordinary action."""
    rows = [FAST_SENDING.row_of(command) for command in commands]
    assert all(row is not None for row in rows)
    numbered = [{"n": n, **row} for n, row in enumerate(rows) if row is not None]
    return FAST_SENDING.land(numbered, fly(FAST_SENDING.statement, numbered))


def command(
    users: dict[str, User], sender: str, receiver: str, hospital: str = HOSPITAL, **more: Any
) -> Command:
    fields = {"receiver_id": receiver, "hospital_id": hospital, "message": "hello", **more}
    return Command(users[sender], SendMessage(**fields))


# Who may write to whom: sender, receiver, hospital, whether there is a room, and whether the fast path sends.
CASES = [
    ("patient_123", "doctor_123", "hospital_001", True, True),
    ("doctor_123", "patient_123", "hospital_001", True, True),
    ("doctor_123", "nurse_001", "hospital_001", True, True),
    ("patient_123", "doctor_123", "hospital_001", False, False),
    ("patient_123", "test_user", "hospital_001", True, False),
    ("doctor_123", "doctor_002", "hospital_001", True, False),
    ("doctor_123", "patient_123", "hospital_002", True, False),
    ("doctor_123", "doctor_002", "hospital_002", True, False),
    ("patient_123", "doctor_002", "hospital_001", True, False),
    ("patient_123", "doctor_002", "hospital_002", True, True),
    ("patient_123", "nobody", "hospital_001", False, False),
    ("patient_123", "doctor_123", "nowhere", False, False),
]


@pytest.mark.parametrize(("sender", "receiver", "hospital", "has_room", "is_sent"), CASES)
@pytest.mark.parametrize("inactive", ["", "sender", "receiver"])
def test_fast_path_has_the_permissions_of_the_ordinary_action(
    users: dict[str, User],
    deliveries: list[Delivery],
    sender: str,
    receiver: str,
    hospital: str,
    has_room: bool,
    is_sent: bool,
    inactive: str,
) -> None:
    if has_room:  # also one that should never have been made
        first, second = ChatRoom.pair(sender, receiver)
        agreed = {"agreed_at": timezone.now()}
        ChatRoom.objects.create(hospital_id=hospital, first_id=first, second_id=second, **agreed)
    for role, user_id in (("sender", sender), ("receiver", receiver)):
        if inactive == role:
            User.objects.filter(pk=user_id).update(is_active=False)
    asked = command(users, sender, receiver, hospital)
    [fast] = send_fast(asked)
    if fast is not None:
        assert is_sent
        assert not inactive
        assert fast.ack_data is not None
        assert Message.objects.get().message_id == fast.ack_data["messageId"]
        return
    assert not is_sent or inactive
    assert not Message.objects.exists()
    assert not MailboxEntry.objects.exists()
    [ordinary] = send_all([asked])
    # An inactive sender has no connection; what the ordinary action refuses, the fast path must not send.
    is_refused = isinstance(ordinary, errors.Refusal)
    assert is_refused or not has_room or inactive == "sender"


def test_room_the_patient_has_not_agreed_to_goes_the_ordinary_way(
    users: dict[str, User], deliveries: list[Delivery]
) -> None:
    first, second = ChatRoom.pair("doctor_123", "patient_123")
    ChatRoom.objects.create(hospital_id=HOSPITAL, first_id=first, second_id=second)
    for sender, receiver in (("doctor_123", "patient_123"), ("patient_123", "doctor_123")):
        asked = command(users, sender, receiver)
        assert send_fast(asked) == [None]
        [sent] = send_all([asked])
        assert not isinstance(sent, errors.Refusal)
    assert send_fast(command(users, "doctor_123", "patient_123")) != [None]  # by writing the patient agreed


def test_fast_path_makes_the_rows_and_events_of_the_ordinary_action(
    users: dict[str, User], deliveries: list[Delivery]
) -> None:
    open_room(users["patient_123"], "doctor_123", HOSPITAL)
    more = {"message": 'Grüße, "Doktor" 🚑', "client_message_id": "once", "priority": "urgent"}
    [fast] = send_fast(
        command(users, "patient_123", "doctor_123", **more, client_timestamp="2026-11-27T10:00")
    )
    message = Message.objects.select_related("room", "sender").get()
    assert fast is not None
    assert fast.ack_data == {
        "messageId": message.message_id,
        "chatRoomId": message.room_id,
        "timestamp": json.loads(NewMessage.of(message).frame())["timestamp"],
    }
    [delivery] = deliveries
    expected = envelope_of(NewMessage.of(message), event_id=message.message_id)
    assert json.loads(delivery.envelope.frame) == json.loads(expected.frame)
    assert (delivery.envelope.subject, delivery.envelope.topic, delivery.envelope.author) == (
        expected.subject,
        expected.topic,
        expected.author,
    )
    # The sender comes first, and both have it in their mailbox.
    assert delivery.envelope.seqs == {"patient_123": 1, "doctor_123": 1}
    assert list(delivery.envelope.seqs) == ["patient_123", "doctor_123"]
    entries = MailboxEntry.objects.values_list("user", "seq", "event_type", "subject", "event_id")
    assert sorted(entries) == [
        (user, 1, "newMessage", message.message_id, message.message_id)
        for user in ("doctor_123", "patient_123")
    ]
    # The same row but for what belongs to each message.
    [ordinary] = send_all(
        [command(users, "patient_123", "doctor_123", **{**more, "client_message_id": "two"})]
    )
    assert isinstance(ordinary, Result)
    other = Message.objects.get(client_message_id="two")
    own = {"id", "message_id", "sent_at", "client_message_id", "client_timestamp"}
    rows = [
        {
            f.attname: getattr(row, f.attname)
            for f in Message._meta.local_concrete_fields
            if f.attname not in own
        }
        for row in (message, other)
    ]
    assert rows[0] == rows[1]


def test_repetition_and_conflict_are_left_to_the_ordinary_action(
    users: dict[str, User], deliveries: list[Delivery]
) -> None:
    open_room(users["patient_123"], "doctor_123", HOSPITAL)
    first = command(users, "patient_123", "doctor_123", client_message_id="once")
    other = command(users, "patient_123", "doctor_123", client_message_id="once", message="other")
    [sent, again, conflicting] = send_fast(first, first, other)
    assert sent is not None
    assert (again, conflicting) == (None, None)
    [duplicate, conflict] = send_all([first, other])
    assert isinstance(duplicate, Result)
    assert (duplicate.is_duplicate, duplicate.ack_data) == (True, sent.ack_data)
    assert isinstance(conflict, errors.IdempotencyConflict)
    assert Message.objects.count() == 1


@pytest.mark.parametrize(
    "more",
    [
        {"reply_to": "some message"},
        {"message_type": "location"},
        {"location": {"lat": 1.0, "lng": 2.0}},
        {
            "attachments": [
                {"url": "https://files.example/a.png", "name": "a", "type": "image/png", "size": 1}
            ]
        },
    ],
)
def test_message_with_more_than_a_text_is_left_to_the_ordinary_action(
    users: dict[str, User], more: dict[str, Any]
) -> None:
    assert FAST_SENDING.row_of(command(users, "patient_123", "doctor_123", **more)) is None


def test_batch_draws_seqs_in_the_order_of_its_messages(
    users: dict[str, User], deliveries: list[Delivery]
) -> None:
    for doctor in ("doctor_123", "doctor_456"):
        open_room(users["patient_123"], doctor, HOSPITAL)
    pairs = [
        ("patient_123", "doctor_123"),
        ("doctor_456", "patient_123"),
        ("doctor_123", "patient_123"),
        ("patient_123", "doctor_456"),
    ]
    texts = [str(number) for number in range(len(pairs))]
    results = send_fast(
        *(command(users, *pair, message=text) for pair, text in zip(pairs, texts, strict=True))
    )
    assert all(results)
    assert [m.text for m in Message.objects.order_by("id")] == texts
    seqs = dict(Mailbox.objects.values_list("user", "last_seq"))
    assert seqs == {"patient_123": 4, "doctor_123": 2, "doctor_456": 2}
    by_seq = MailboxEntry.objects.filter(user="patient_123").order_by("seq").values_list("subject", flat=True)
    assert list(by_seq) == [result.ack_data["messageId"] for result in results if result and result.ack_data]


def test_delivery_receipt_is_published_once(users: dict[str, User], deliveries: list[Delivery]) -> None:
    open_room(users["patient_123"], "doctor_123", HOSPITAL)
    [sent] = send_fast(command(users, "patient_123", "doctor_123"))
    assert sent is not None
    assert sent.ack_data is not None
    message_id = sent.ack_data["messageId"]
    deliveries.clear()
    right, wrong = ("doctor_123", message_id), ("patient_123", message_id)
    for _ in range(2):  # marks are repeated where a flight failed
        FAST_DELIVERED.land(fly(FAST_DELIVERED.statement, [FAST_DELIVERED.row_of(m) for m in (right, wrong)]))
    [delivery] = deliveries
    message = Message.objects.get()
    fields = json.loads(delivery.envelope.frame)
    assert fields == {
        "type": "messageDelivered",
        "messageId": message_id,
        "chatRoomId": message.room_id,
        "userId": "doctor_123",
        "deliveredAt": fields["deliveredAt"],
    }
    assert delivery.envelope.seqs == {"patient_123": 2}
    entry = MailboxEntry.objects.get(event_type="messageDelivered")
    assert (entry.user_id, entry.seq, entry.event_id) == ("patient_123", 2, delivery.envelope.event_id)


@pytest.mark.parametrize(("is_connected_elsewhere", "pushes"), [(False, 1), (True, 0)])
def test_receiver_without_a_connection_gets_a_push(
    users: dict[str, User], deliveries: list[Delivery], is_connected_elsewhere: bool, pushes: int
) -> None:
    open_room(users["patient_123"], "doctor_123", HOSPITAL)
    for user_id in ("doctor_123", "patient_123"):
        register(Session.objects.create(user=users[user_id]), f"token of {user_id}")
    revoked = Session.objects.create(user=users["doctor_123"], revoked_at=timezone.now())
    register(revoked, "token of a session that has ended")
    if is_connected_elsewhere:
        elsewhere = ServerProcess.objects.create(host="another", pid=1)
        Connection.objects.create(
            server=elsewhere, user=users["doctor_123"], role="doctor", hospital=HOSPITAL
        )
    [sent] = send_fast(command(users, "patient_123", "doctor_123"))
    assert sent is not None
    assert sent.ack_data is not None
    assert PushOutbox.objects.count() == pushes
    for push in PushOutbox.objects.all():
        message_id = sent.ack_data["messageId"]
        assert push.device.token == "token of doctor_123"
        assert push.content() == {"category": "message", "id": message_id, "eventId": message_id}
