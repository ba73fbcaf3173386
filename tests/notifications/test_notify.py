"""What HPlus itself says to people, as part of what a domain does."""

from __future__ import annotations

import pytest

from hplus.accounts.models import User
from hplus.notifications.actions import notify
from hplus.notifications.models import Notification
from hplus.realtime.actions import action
from hplus.realtime.models import MailboxEntry

NOTICE = {"category": "emergencyEscalated", "title": "Nobody has accepted", "body": "For 30 seconds."}


def test_each_recipient_gets_a_row_and_a_mailbox_entry(users: dict[str, User]) -> None:
    notify(["admin_001", "doctor_123", "admin_001", "nobody"], **NOTICE, priority="urgent", data={"id": "7"})
    rows = Notification.objects.order_by("recipient").values_list(
        "recipient", "hospital", "category", "title", "body", "priority", "data", "read_at"
    )
    assert list(rows) == [
        (person, "hospital_001", *NOTICE.values(), "urgent", {"id": "7"}, None)
        for person in ("admin_001", "doctor_123")
    ]
    entries = set(MailboxEntry.objects.values_list("user", "event_type", "subject"))
    assert entries == {(row.recipient_id, "notification", row.pk) for row in Notification.objects.all()}


def test_deactivated_account_gets_no_notification(users: dict[str, User]) -> None:
    User.objects.filter(pk="doctor_456").update(is_active=False)
    notify(["doctor_123", "doctor_456"], **NOTICE)
    assert [notice.recipient_id for notice in Notification.objects.all()] == ["doctor_123"]


def test_notification_is_rolled_back_with_the_surrounding_action(users: dict[str, User]) -> None:
    @action
    def escalate() -> None:
        notify(["admin_001"], **NOTICE)
        raise RuntimeError("the row is locked")

    with pytest.raises(RuntimeError):
        escalate()
    assert not Notification.objects.exists()
    assert not MailboxEntry.objects.exists()
