"""What every new socket asks must not read through a million messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet

from chat.models import Message
from hplus.accounts.models import User

Asked = Callable[[User], QuerySet[Message]]


@pytest.mark.parametrize("asked", [Message.objects.undelivered_to, Message.objects.unread_by])
@pytest.mark.parametrize("user_id", ["patient_123", "doctor_123"])
def test_what_waits_for_somebody_is_found_by_its_index(
    people: dict[str, User], asked: Asked, user_id: str
) -> None:
    with connection.cursor() as cursor:  # an empty table is read through faster than by any index
        cursor.execute("SET enable_seqscan = off")
        plan: Any = asked(people[user_id]).explain()
        cursor.execute("RESET enable_seqscan")
    assert "message_unread" in plan
    assert "Seq Scan on chat_message" not in plan
