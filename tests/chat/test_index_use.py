"""What every new socket asks must not read through a million messages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from chat.models import ChatRoom, Message
from hplus.accounts.models import User

Asked = Callable[[User], QuerySet[Message]]
READ_LONG_AGO = 3_000  # so many that to read through them all is no choice


@pytest.mark.parametrize(
    "asked", [Message.objects.unread_by, lambda user: Message.objects.unread_by_any([user])]
)
@pytest.mark.parametrize("user_id", ["patient_123", "doctor_123"])
def test_unread_messages_are_found_by_index(users: dict[str, User], asked: Asked, user_id: str) -> None:
    doctor, patient, now = users["doctor_123"], users["patient_123"], timezone.now()
    room = ChatRoom.objects.create(hospital_id="hospital_001", first=doctor, second=patient)
    for sender, receiver in ((doctor, patient), (patient, doctor)):
        pair = {"room": room, "sender": sender, "receiver": receiver}
        read = [Message(**pair, delivered_at=now, read_at=now) for _ in range(READ_LONG_AGO)]
        Message.objects.bulk_create([*read, Message(**pair)])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE chat_message")
    plan = asked(users[user_id]).explain()
    assert "message_unread" in plan
    assert "Seq Scan on chat_message" not in plan
