"""What was missed is read for many at once as for each alone."""

from __future__ import annotations

import pytest
from django.db import connection as database

from chat.actions import send
from chat.arrivals import undelivered, unread_counts
from chat.messages import SendMessage
from chat.models import Message
from chat.receipts import deliver_all_up_to
from hplus.accounts.models import User
from hplus.realtime.models import Epoch, Mailbox, MailboxEntry
from hplus.realtime.publishing import replay as replaying
from hplus.realtime.publishing.replay import Cursor, Missed, Replay, replay, replay_each, replay_later

HOSPITAL = "hospital_001"
needs_statements = pytest.mark.skipif(database.vendor != "postgresql", reason="the statement is PostgreSQL's")


def write(users: dict[str, User], sender: str, receiver: str, count: int) -> None:
    for number in range(count):
        request = SendMessage(receiver_id=receiver, hospital_id=HOSPITAL, message=f"{sender} {number}")
        send(users[sender], request)


def seen(replay: Replay) -> object:
    entries = [(seq, envelope and (envelope.event_type, envelope.frame)) for seq, envelope in replay.entries]
    return replay.recovered, replay.since, replay.has_more, entries


@needs_statements
def test_batch_of_cursors_is_replayed_as_each_alone(
    users: dict[str, User], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "TOGETHER_MOST", 5)
    write(users, "patient_123", "doctor_123", 4)
    write(users, "patient_123", "nurse_001", 3)
    write(users, "test_user", "doctor_456", 7)
    MailboxEntry.objects.filter(user="nurse_001", seq=1).delete()  # past keeping
    MailboxEntry.objects.filter(user="doctor_123", seq=3).update(subject="a row that is gone")
    epoch = Epoch.current()
    last = dict(Mailbox.objects.values_list("user", "last_seq"))
    cursors = [
        ("doctor_123", Cursor(0, epoch)),
        ("doctor_123", Cursor(2, None)),
        ("doctor_123", Cursor(4, "")),
        ("doctor_123", Cursor(5, epoch)),
        ("doctor_123", Cursor(2, "another")),
        ("nurse_001", Cursor(0, epoch)),
        ("nurse_001", Cursor(1, epoch)),
        ("doctor_456", Cursor(0, epoch)),  # too many to be read with others
        ("doctor_456", Cursor(6, epoch)),
        ("patient_123", Cursor(2**62, epoch)),
    ]
    together = replay_each([Missed(users[user_id], c, epoch, last[user_id]) for user_id, c in cursors])
    alone = [replay(users[user_id], c.since, c.epoch, last[user_id], most=100) for user_id, c in cursors]
    alone[7] = replay_later(users["doctor_456"], 0, epoch, last["doctor_456"])
    assert [seen(one) for one in together] == [seen(one) for one in alone]
    assert together[7].has_more
    assert [one.recovered for one in together] == [
        *(True, True, True, False, False),
        *(False, True, True, True, False),
    ]
    assert [seq for seq, envelope in together[0].entries if envelope is None] == [3]


def test_unread_and_undelivered_messages_are_found_for_many(users: dict[str, User]) -> None:
    write(users, "patient_123", "doctor_123", 2)
    write(users, "test_user", "doctor_123", 1)
    write(users, "doctor_123", "patient_123", 1)
    MailboxEntry.objects.filter(user="patient_123", subject__in=_ids("doctor_123 0")).delete()
    asked = [users[user_id] for user_id in ("doctor_123", "patient_123", "nurse_001")]
    counts = unread_counts(asked)
    assert sorted(row["count"] for row in counts["doctor_123"]) == [1, 2]
    assert [row["count"] for row in counts["patient_123"]] == [1]
    assert counts["nurse_001"] == []
    found = undelivered(asked)
    assert [envelope.subject for envelope in found["doctor_123"].events] == _ids(
        "patient_123 0", "patient_123 1", "test_user 0"
    )
    assert [envelope.seq for envelope in found["doctor_123"].events] == [1, 2, 3]
    assert [(envelope.subject, envelope.seq) for envelope in found["patient_123"].events] == [
        (_ids("doctor_123 0")[0], None)
    ]
    assert not found["nurse_001"].events


def test_cursor_marks_the_messages_before_it_as_delivered(users: dict[str, User]) -> None:
    write(users, "patient_123", "doctor_123", 3)
    write(users, "patient_123", "nurse_001", 2)
    deliver_all_up_to([("doctor_123", 2), ("nurse_001", 1), ("doctor_456", 9)])
    delivered = Message.objects.exclude(delivered_at=None).order_by("id")
    assert list(delivered.values_list("receiver", "text")) == [
        ("doctor_123", "patient_123 0"),
        ("doctor_123", "patient_123 1"),
        ("nurse_001", "patient_123 0"),
    ]


def _ids(*texts: str) -> list[str]:
    return [Message.objects.filter(text=text).order_by("id")[0].message_id for text in texts]
