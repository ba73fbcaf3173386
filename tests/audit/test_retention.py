"""What is older than the retention is replaced, what is held or younger stays."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.utils import timezone

from calls import actions as calls
from calls.messages import EndCall, InitiateCall
from calls.models import Call
from calls.setup import initiate
from chat import actions as chat
from chat import attachments, legal_hold
from chat.messages import SendMessage
from chat.models import Attachment, ChatRoom, Message
from emergency.models import Emergency
from emergency.retention import without_personal_data
from hplus.accounts.models import User
from hplus.audit.models import Record, Verb
from hplus.management.commands.seed_demo import seed_people
from hplus.operations.retention import anonymise_expired
from location.models import Fix

LONG_AGO = timezone.now() - timedelta(days=40)


@pytest.fixture(autouse=True)
def users(transactional_db: None) -> dict[str, User]:
    """Each of two patients has said something and called for help, forty days ago; one also today."""
    seed_people()
    users = User.objects.in_bulk()
    for patient in ("patient_123", "test_user"):
        room = say(users, patient, "My arm hurts")
        file = attachments.store(users[patient], room, SimpleUploadedFile("arm.txt", b"red and swollen"))
        Attachment.objects.filter(pk=file.pk).update(uploaded_at=LONG_AGO)
        Emergency.objects.create(
            hospital_id="hospital_001", patient_id=patient, patient_name="Pat Meadow", lat=37.77491,
            lng=-122.41941, condition="stroke", priority="high", status="cancelled", cancelled_at=LONG_AGO,
            requested_by=users[patient], requested_by_role="patient", requested_at=LONG_AGO,
        )  # fmt: skip
        call(users, patient, "in pain again")
        Fix.objects.create(
            user=users[patient], lat=1, lng=1, at=LONG_AGO, received_at=LONG_AGO, reason_id="old"
        )
    Message.objects.update(sent_at=LONG_AGO)
    Call.objects.update(started_at=LONG_AGO)
    say(users, "patient_123", "It is better now")
    return users


def say(users: dict[str, User], patient: str, text: str) -> ChatRoom:
    request = SendMessage(receiver_id="doctor_123", hospital_id="hospital_001", message=text)
    made = chat.send(users[patient], request).ack_data
    assert made is not None
    return ChatRoom.objects.get(pk=made["chatRoomId"])


def call(users: dict[str, User], patient: str, reason: str | None) -> None:
    request = InitiateCall(receiver_id="doctor_456", call_type="audio")
    call_id = (initiate(users[patient], request, connection_id="").ack_data or {})["callId"]
    calls.end(users[patient], EndCall(call_id=call_id, reason=reason), connection_id="")


def reasons() -> set[tuple[str, str]]:
    return set(Call.objects.values_list("initiator", "end_reason"))


def command(*arguments: str) -> dict[str, Any]:
    said = StringIO()
    call_command("anonymise", "--json", *arguments, stdout=said)
    return json.loads(said.getvalue())


def texts() -> list[str]:
    return list(Message.objects.order_by("id").values_list("text", flat=True))


def test_command_without_apply_only_counts() -> None:
    counted = command("--days", "30")
    assert counted == {
        "applied": False, "messages": 2, "attachments": 2, "emergencies": 2, "positions": 2,
        "calls": 2, "notices": 0, "histories": 0,
    }  # fmt: skip
    assert command("--days", "30", "--dry-run") == counted
    assert texts() == ["My arm hurts", "My arm hurts", "It is better now"]
    for none in ((), ("--days", "0"), ("--days", "-1")):
        with pytest.raises(CommandError, match="Everything is kept"):
            command(*none)
    with pytest.raises(CommandError, match="--days: must be at most 36500"):
        command("--days", "99999999")


def test_expired_content_is_anonymised_once() -> None:
    file = Attachment.objects.all()[0].file
    assert command("--days", "30", "--apply")["messages"] == 2
    assert texts() == ["(removed)", "(removed)", "It is better now"]
    assert not Attachment.objects.exists()
    assert not file.storage.exists(file.name)
    assert not Fix.objects.exists()
    assert reasons() == {("patient_123", "(removed)"), ("test_user", "(removed)")}
    emergency = Emergency.objects.all()[0]
    assert (emergency.patient_id, emergency.patient_name, emergency.condition) == ("(removed)",) * 3
    assert (emergency.lat, emergency.lng, emergency.original) == (37.8, -122.4, {})
    written = Record.objects.get(verb=Verb.ANONYMISE)
    assert written.details["messages"] == 2
    assert set(command("--days", "30", "--apply").values()) == {True, 0}
    assert Record.objects.filter(verb=Verb.ANONYMISE).count() == 1


def test_legal_hold_keeps_the_conversation_and_its_patients_data(users: dict[str, User]) -> None:
    held = ChatRoom.objects.get(second="test_user")
    legal_hold.hold(users["admin_001"], held.pk, "Case 17")
    command("--days", "30", "--apply")
    assert texts() == ["(removed)", "My arm hurts", "It is better now"]
    assert list(Attachment.objects.values_list("room", flat=True)) == [held.pk]
    assert list(Emergency.objects.filter(condition="stroke").values_list("patient_id", flat=True)) == [
        "test_user"
    ]
    assert list(Fix.objects.values_list("user", flat=True)) == ["test_user"]
    assert reasons() == {("patient_123", "(removed)"), ("test_user", "in pain again")}
    legal_hold.release(users["admin_001"], held.pk)
    assert command("--days", "30", "--apply")["messages"] == 1


def test_call_end_reasons_of_hplus_are_kept(users: dict[str, User]) -> None:
    Call.objects.all().delete()
    call(users, "patient_123", None)
    Call.objects.update(started_at=LONG_AGO)
    assert command("--days", "30", "--apply")["calls"] == 0
    assert reasons() == {("patient_123", "cancelled")}


def test_open_emergency_is_never_anonymised() -> None:
    Emergency.objects.update(status="pending", cancelled_at=None)
    assert command("--days", "30", "--apply")["emergencies"] == 0


def test_retention_job_obeys_its_setting(settings: Any) -> None:
    settings.HPLUS_RETENTION_DAYS = 0
    assert anonymise_expired() == 0
    settings.HPLUS_RETENTION_DAYS = 30
    assert anonymise_expired() == 10


def test_anonymised_timeline_entry_keeps_its_shape() -> None:
    said = {
        "status": "completed",
        "notes": "He fell",
        "data": [{"patientName": "Pat", "lat": 1.5, "vitals": {"pulse": 9}}],
    }
    assert without_personal_data(said) == {
        "status": "completed", "notes": "(removed)",
        "data": [{"patientName": "(removed)", "lat": 0.0, "vitals": {}}],
    }  # fmt: skip
