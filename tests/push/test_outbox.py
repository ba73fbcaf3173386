"""Who is woken, for what, and what becomes of a push on its way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django.fixtures import Settings

from chat.actions import send
from chat.messages import MarkAsRead, SendMessage
from chat.receipts import deliver_all, mark_as_read
from hplus.accounts.models import Session, Token, User
from hplus.notifications.actions import notify
from hplus.push.actions import LEASE_SECONDS, delete_old_pushes, register, send_due_pushes
from hplus.push.models import PushDevice, PushOutbox
from hplus.realtime.actions import action
from hplus.realtime.hub import expiry, presence
from hplus.realtime.models import Connection, MailboxEntry, Presence, PresenceStatus, ServerProcess
from tests.push import recording_sender
from tests.waiting import PATIENCE_SECONDS

NOTICE = {"category": "shift", "title": "Change of shift", "body": "The ward round is at nine."}
Device = Callable[..., PushDevice]
Sent = list[tuple[str, dict[str, str]]]


def tokens_woken() -> list[str]:
    return sorted(PushOutbox.objects.values_list("device__token", flat=True))


def connect(user: User) -> Connection:
    """A socket on some server, as its row says."""
    server = ServerProcess.objects.create(host="ward", pid=1)
    Presence.objects.update_or_create(pk=user.pk, defaults={"status": PresenceStatus.AVAILABLE})
    return Connection.objects.create(server=server, user=user, role=user.role)


# Who, and for what


def test_connected_user_is_not_woken(users: dict[str, User], device: Device) -> None:
    device("doctor_123", "of-doctor")
    device("nurse_001", "of-nurse")
    connect(users["nurse_001"])
    notify(["doctor_123", "nurse_001", "doctor_456"], **NOTICE)
    assert MailboxEntry.objects.count() == 3
    assert tokens_woken() == ["of-doctor"]


def test_all_devices_of_a_user_are_woken(device: Device) -> None:
    device("doctor_123", "phone", "pixel")
    device("doctor_123", "tablet", "tab")
    notify(["doctor_123"], **NOTICE)
    assert tokens_woken() == ["phone", "tablet"]


def test_push_row_commits_or_rolls_back_with_its_event(device: Device) -> None:
    device("doctor_123", "phone")

    @action
    def half() -> None:
        notify(["doctor_123"], **NOTICE)
        raise RuntimeError("the ward is full")

    with pytest.raises(RuntimeError):
        half()
    assert not PushOutbox.objects.exists()
    notify(["doctor_123"], **NOTICE)
    assert str(PushOutbox.objects.get().event_id) == MailboxEntry.objects.get().event_id


def test_message_wakes_its_receiver_and_a_receipt_nobody(users: dict[str, User], device: Device) -> None:
    device("patient_123", "of-patient")
    device("doctor_123", "of-doctor")
    request = SendMessage(receiver_id="doctor_123", hospital_id="hospital_001", message="It hurts")
    made = send(users["patient_123"], request).ack_data
    assert made is not None
    deliver_all([("doctor_123", made["messageId"])])
    mark_as_read(users["doctor_123"], MarkAsRead(message_id=made["messageId"]))
    types = set(MailboxEntry.objects.values_list("user", "event_type"))
    assert ("patient_123", "messageRead") in types
    row = PushOutbox.objects.get()
    assert (row.device.token, row.content()) == (
        "of-doctor",
        {"category": "message", "id": made["messageId"], "eventId": str(row.event_id)},
    )


def test_events_sent_into_a_dead_connection_wake_when_it_expires(
    users: dict[str, User], device: Device, settings: Settings
) -> None:
    settings.PRESENCE_GRACE_SECONDS = 0
    device("paramedic_456", "phone")
    dead = connect(users["paramedic_456"])
    notify(["paramedic_456"], **NOTICE)
    assert not PushOutbox.objects.exists()

    long_ago = timezone.now() - timedelta(minutes=1)
    ServerProcess.objects.filter(pk=dead.server_id).update(seen_at=long_ago)
    assert expiry.expire_dead_servers()
    assert expiry.expire_presence() == 1
    assert tokens_woken() == ["phone"]


def test_clean_disconnect_wakes_only_for_undelivered_events(
    users: dict[str, User], device: Device, settings: Settings
) -> None:
    settings.PRESENCE_GRACE_SECONDS = 0
    device("paramedic_456", "phone")
    socket = connect(users["paramedic_456"])
    for category in ("heard", "crossing"):
        notify(["paramedic_456"], **{**NOTICE, "category": category})
    heard_at = timezone.now() - timedelta(seconds=5)
    MailboxEntry.objects.filter(seq=1).update(at=heard_at)
    presence.depart(socket, is_clean=True)
    assert Presence.objects.get(pk="paramedic_456").status == PresenceStatus.OFFLINE
    assert [row.category for row in PushOutbox.objects.all()] == ["crossing"]


# Devices


def test_new_token_replaces_the_old_one(device: Device) -> None:
    device("doctor_123", "old", "pixel")
    device("doctor_123", "new", "pixel")
    notify(["doctor_123"], **NOTICE)
    assert tokens_woken() == ["new"]


def test_shared_device_wakes_for_the_last_signed_in_user(sent_pushes: Sent, device: Device) -> None:
    before = device("doctor_123", "shared", "ward-phone")
    notify(["doctor_123"], **NOTICE)
    Session.objects.filter(pk=before.session_id).revoke("signed out")
    device("nurse_001", "shared", "ward-phone")
    notify(["doctor_123", "nurse_001"], **NOTICE)
    assert send_due_pushes() == 1
    about = MailboxEntry.objects.get(user="nurse_001").subject
    assert [(token, content["id"]) for token, content in sent_pushes] == [("shared", about)]


def test_push_token_of_another_account_can_not_be_taken_over(
    users: dict[str, User], sent_pushes: Sent, device: Device
) -> None:
    device("doctor_123", "of the doctor", "pixel")
    thief = Session.objects.create(user=users["nurse_001"], device_id="pixel")
    register(thief, "of the doctor", device_id="pixel")
    notify(["doctor_123", "nurse_001"], **NOTICE)
    assert send_due_pushes() == 1
    about = MailboxEntry.objects.get(user="doctor_123").subject
    assert [(token, content["id"]) for token, content in sent_pushes] == [("of the doctor", about)]


@pytest.mark.parametrize("how", ["signed out", "expired"])
def test_push_token_follows_the_device_once_the_session_before_is_over(
    users: dict[str, User], sent_pushes: Sent, device: Device, how: str
) -> None:
    before = device("doctor_123", "of the ward", "pixel")
    if how == "signed out":
        Session.objects.filter(pk=before.session_id).revoke(how)
    else:
        Token.objects.filter(session=before.session_id).update(expires_at=timezone.now())
    register(Session.objects.create(user=users["nurse_001"], device_id="pixel"), "of the ward")
    notify(["doctor_123", "nurse_001"], **NOTICE)
    assert send_due_pushes() == 1
    about = MailboxEntry.objects.get(user="nurse_001").subject
    assert [(token, content["id"]) for token, content in sent_pushes] == [("of the ward", about)]


@pytest.mark.parametrize("how", ["signed out", "deactivated"])
def test_signed_out_or_deactivated_user_is_not_woken(sent_pushes: Sent, device: Device, how: str) -> None:
    device("doctor_123", "phone")
    notify(["doctor_123"], **NOTICE)
    if how == "signed out":
        Session.objects.revoke(how)
    else:
        User.objects.filter(pk="doctor_123").update(is_active=False)
    send_due_pushes()
    assert sent_pushes == []
    assert PushOutbox.objects.get().state == "given up"


def test_signed_out_device_gets_no_new_row(device: Device) -> None:
    device("doctor_123", "phone")
    Session.objects.revoke("signed out")
    notify(["doctor_123"], **NOTICE)
    assert MailboxEntry.objects.count() == 1
    assert not PushOutbox.objects.exists()


# On the way


def test_two_workers_send_a_push_once(sent_pushes: Sent, device: Device) -> None:
    device("doctor_123", "phone")
    notify(["doctor_123"], **NOTICE)
    recording_sender.is_open.clear()
    first = threading.Thread(target=lambda: (send_due_pushes(), connection.close()))
    first.start()
    assert recording_sender.is_waiting.wait(PATIENCE_SECONDS)
    assert send_due_pushes() == 0
    recording_sender.is_open.set()
    first.join(PATIENCE_SECONDS)
    assert [token for token, _ in sent_pushes] == ["phone"]


def test_push_leased_by_a_dead_worker_is_sent_by_another(sent_pushes: Sent, device: Device) -> None:
    device("doctor_123", "phone")
    notify(["doctor_123"], **NOTICE)
    lease_ends = timezone.now() + timedelta(seconds=LEASE_SECONDS)
    PushOutbox.objects.update(attempts=1, due_at=lease_ends)
    assert send_due_pushes() == 0
    PushOutbox.objects.update(due_at=lease_ends - timedelta(seconds=LEASE_SECONDS + 1))
    assert send_due_pushes() == 1
    assert [token for token, _ in sent_pushes] == ["phone"]


def test_console_sender_writes_ids_and_category(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    device("doctor_123", "secret-token")
    notify(["doctor_123"], **NOTICE)
    with caplog.at_level("INFO", logger="hplus.push.senders"):
        send_due_pushes()
    row = PushOutbox.objects.get()
    assert row.state == "sent"
    [line] = [record.getMessage() for record in caplog.records]
    content = f'{{"category":"shift","id":"{row.subject}","eventId":"{row.event_id}"}}'
    assert line == f"Push to device {row.device_id}: {content}"


def test_finished_pushes_are_deleted_after_the_retention(sent_pushes: Sent, device: Device) -> None:
    device("doctor_123", "phone")
    notify(["doctor_123"], **NOTICE)
    send_due_pushes()
    notify(["doctor_123"], **NOTICE)
    assert delete_old_pushes() == 0
    PushOutbox.objects.filter(state="sent").update(finished_at=timezone.now() - timedelta(days=8))
    assert delete_old_pushes() == 1
    assert [row.state for row in PushOutbox.objects.all()] == ["waiting"]
