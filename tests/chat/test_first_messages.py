"""Many people write their first message at once, each into a new room."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chat.actions import unread_in, unread_in_each
from chat.messages import SendMessage
from chat.models import ChatRoom
from chat.sending import send_all
from hplus import errors
from hplus.accounts.models import Role, User
from hplus.audit.models import Record
from hplus.realtime.actions import Command, Result
from hplus.realtime.publishing.envelopes import Envelope

HOSPITAL = "hospital_001"
AUDIT_HEAD = "audit_head"  # advances row by row, which the database insists on


def first_message(sender: User, receiver: User) -> Command:
    frame = {"type": SendMessage.type, "receiverId": receiver.pk, "hospitalId": HOSPITAL, "message": "Hello"}
    return Command(sender, SendMessage.read(frame))


def pairs(count: int, prefix: str) -> list[tuple[User, User]]:
    """New nurses with a new patient each."""
    nurses = [
        User(user_id=f"{prefix}_nurse_{n}", role=Role.NURSE, hospital_id=HOSPITAL) for n in range(count)
    ]
    patients = [User(user_id=f"{prefix}_patient_{n}", role=Role.PATIENT) for n in range(count)]
    User.objects.bulk_create(nurses + patients)
    return list(zip(nurses, patients, strict=True))


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("who", ["nurse", "patient"])
def test_first_messages_take_as_many_queries_for_many_rooms_as_for_one(who: str) -> None:
    counts = []
    for count in (1, 40):
        both = pairs(count, f"{who}{count}")
        commands = [first_message(*(pair if who == "nurse" else pair[::-1])) for pair in both]
        with CaptureQueriesContext(connection) as captured:
            outcomes = send_all(commands)
        assert all(isinstance(outcome, Result) for outcome in outcomes)
        counts.append(len([query for query in captured if AUDIT_HEAD not in query["sql"]]))
    assert counts[1] <= counts[0], "the very first record also makes the head of the audit"
    assert ChatRoom.objects.exclude(agreed_at=None).count() == (41 if who == "patient" else 0)
    approaches = Record.objects.filter(details__what="first contact").order_by("number")
    assert [record.actor_id for record in approaches][1:] == (
        [f"nurse40_nurse_{n}" for n in range(40)] if who == "nurse" else []
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("users")
def test_unread_messages_of_many_rooms_are_those_of_each() -> None:
    nurse, other = User.objects.get(pk="nurse_001"), User.objects.get(pk="doctor_123")
    patients = [patient for _, patient in pairs(3, "unread")]
    send_all([first_message(patient, nurse) for patient in patients] + [first_message(patients[0], other)])
    rooms = dict(ChatRoom.objects.values_list("first_id", "chat_room_id")) | dict(
        ChatRoom.objects.values_list("second_id", "chat_room_id")
    )
    asked = [
        (nurse, rooms[patients[1].pk]),
        (nurse, rooms[patients[2].pk]),
        (patients[1], rooms[patients[1].pk]),
    ]

    def envelopes(found: Result) -> list[Envelope]:
        return [event for event in found.events if isinstance(event, Envelope)]

    each = [envelopes(found) for found in unread_in_each(asked)]
    assert [len(found) for found in each] == [1, 1, 0]
    assert each == [envelopes(unread_in(*ask)) for ask in asked]
    assert json.loads(each[0][0].frame)["data"]["senderId"] == patients[1].pk


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("users")
def test_staff_approach_no_more_patients_in_one_batch_than_in_an_hour(settings: Any) -> None:
    settings.FIRST_CONTACTS_PER_HOUR = 2
    nurse = User.objects.get(pk="nurse_001")
    outcomes = send_all([first_message(nurse, patient) for _, patient in pairs(3, "many")])
    assert [type(outcome) for outcome in outcomes] == [Result, Result, errors.RateLimited]
    assert ChatRoom.objects.count() == 2
    [outcome] = send_all([first_message(nurse, pairs(1, "later")[0][1])])
    assert isinstance(outcome, errors.RateLimited)
    assert 3590 < (outcome.retry_after or 0) <= 3600
