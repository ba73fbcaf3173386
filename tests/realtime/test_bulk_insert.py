"""A batch of rows in one statement is what row by row would have been."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chat.models import ChatRoom, Message
from hplus.accounts.models import User
from hplus.realtime.execution import bulk_insert
from hplus.realtime.models import Mailbox

ODD = {"name": 'quote " and \\ backslash', "size": 1.5, "deep": [None, True, {"ключ": "🚑"}]}


@pytest.fixture
def room(users: dict[str, User]) -> ChatRoom:
    return ChatRoom.objects.create(
        hospital_id="hospital_001", first=users["doctor_123"], second=users["patient_123"]
    )


def message(room: ChatRoom, **fields: object) -> Message:
    given = {"text": "hello", "sent_at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), **fields}
    return Message(room=room, sender=room.first, receiver=room.second, **given)


def stored(room: ChatRoom) -> list[dict[str, object]]:
    return [bulk_insert.row_of(row) for row in Message.objects.filter(room=room).order_by("id")]


def test_inserted_values_are_read_back_unchanged(room: ChatRoom) -> None:
    written = [
        message(room, attachments=[ODD], location={"lat": 37.0, "lng": -122.4194}),
        message(room, text="%s \x07 {} 'quoted' \U0001f691", client_message_id="once", reply_to="x"),
    ]
    bulk_insert.insert(Message, map(bulk_insert.row_of, written))
    assert stored(room) == [bulk_insert.row_of(row) for row in written]


def test_conflicting_rows_are_skipped_with_ignore_conflicts(room: ChatRoom) -> None:
    bulk_insert.insert(Message, [bulk_insert.row_of(message(room, client_message_id="once"))])
    again = [message(room, client_message_id="once"), message(room, client_message_id="other")]
    bulk_insert.insert(Message, map(bulk_insert.row_of, again), ignore_conflicts=True)
    assert [row["client_message_id"] for row in stored(room)] == ["once", "other"]


def test_empty_insert_makes_no_statement(room: ChatRoom) -> None:
    bulk_insert.insert(Message, [])
    assert stored(room) == []


def test_seqs_are_drawn_without_gaps_also_from_a_new_mailbox(
    users: dict[str, User],
) -> None:
    assert Mailbox.objects.draw({"patient_123": 2, "doctor_123": 1}) == {"patient_123": 2, "doctor_123": 1}
    assert Mailbox.objects.draw({"patient_123": 3}) == {"patient_123": 5}
    assert Mailbox.objects.draw({}) == {}
    assert dict(Mailbox.objects.values_list("user_id", "last_seq")) == {"patient_123": 5, "doctor_123": 1}


def test_row_with_the_same_key_is_replaced(users: dict[str, User]) -> None:
    def at(user_id: str, seq: int) -> dict[str, object]:
        return {"user_id": user_id, "last_seq": seq}

    bulk_insert.insert(Mailbox, [at("patient_123", 1), at("doctor_123", 1)], replaces="user_id")
    bulk_insert.insert(Mailbox, [at("doctor_123", 2), at("nurse_001", 1)], replaces="user_id")
    seqs = dict(Mailbox.objects.values_list("user_id", "last_seq"))
    assert seqs == {"patient_123": 1, "doctor_123": 2, "nurse_001": 1}
