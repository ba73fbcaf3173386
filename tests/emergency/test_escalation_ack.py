"""A dispatcher's acknowledgement is for dispatchers and staff: replayed to them, hidden from the patient."""

from __future__ import annotations

import pytest
from django.utils import timezone

from emergency.amend import amend
from emergency.call_for_help import request_help
from emergency.escalation_ack import acknowledge_escalation
from emergency.messages import AcknowledgeEscalation, Amend, EntryEvent, RequestHelp, Respond
from emergency.models import Emergency, Entry, HospitalPolicy
from emergency.response import respond
from emergency.visibility import View
from hplus.accounts.models import User
from hplus.protocol.wire import encode, subclasses
from tests.emergency import guide_frames
from tests.servers import ThreadServer
from tests.stories.test_charts import SECRET, call, http_of

NOTE = "the night crew is on it"


async def _ask_dispatchers(emergency_id: str) -> None:
    row = Emergency.objects.filter(pk=emergency_id)
    assert await row.aupdate(escalation_level=1, escalate_at=timezone.now()) == 1


async def test_acknowledgement_is_replayed_to_a_dispatcher_who_called_and_reads_no_chart(
    server: ThreadServer,
) -> None:
    roles = {"alert_roles": ["doctor"], "chart_roles": ["doctor"]}
    await HospitalPolicy.objects.acreate(hospital_id="hospital_001", **roles)
    async with server.phone("admin_001", "admin", "hospital_001") as admin:
        emergency_id = await call(admin, patientId="walk_in_1")
        await _ask_dispatchers(emergency_id)
        await admin.expect("notification", category="emergencyEscalated")
        said = await admin.ask("emergencyEscalationAck", emergencyId=emergency_id, note=NOTE)
        assert said["type"] == "ack"
        live = await admin.expect("emergencyEscalationAcked", emergencyId=emergency_id)
        epoch = admin.established["epoch"]
    async with server.phone("admin_001", "admin", "hospital_001", since=0, epoch=epoch) as admin:
        again = await admin.expect("emergencyEscalationAcked", emergencyId=emergency_id)
        assert (again["note"], again["seq"]) == (NOTE, live["seq"])
        await admin.expect("emergencyCreated", emergencyId=emergency_id)


async def test_patient_reads_neither_who_was_asked_to_help_nor_what_a_dispatcher_noted(
    server: ThreadServer,
) -> None:
    policy = await HospitalPolicy.objects.acreate(hospital_id="hospital_001")
    await policy.mutual_aid.aadd("hospital_002")
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("admin_001", "admin", "hospital_001") as admin,
        server.phone("doctor_002", "doctor", "hospital_002") as helper,
    ):
        emergency_id = await call(patient)
        await Emergency.objects.aupdate(escalation_level=2, escalate_at=timezone.now())
        await helper.expect("emergencyAlert", emergencyId=emergency_id)
        said = await admin.ask("emergencyEscalationAck", emergencyId=emergency_id, note=NOTE)
        assert said["type"] == "ack"
    path = f"/api/emergencies/{emergency_id}/timeline/"
    shown = http_of(server, "patient_123").get(path)
    for hidden in (NOTE, "admin_001", "mutualAid", "hospital_002", "userIds"):
        assert hidden not in shown.text, hidden
    entries = {entry["kind"]: entry for entry in shown.json()["entries"]}
    assert {"alerted", "escalated", "acknowledged"} <= set(entries)
    acknowledged = entries["acknowledged"]
    assert (acknowledged["by"], acknowledged["byRole"]) == (None, None)
    assert set(acknowledged["data"]) == {"emergencyId", "at", "until"}
    whole = http_of(server, "doctor_123").get(path).text
    assert NOTE in whole
    assert "mutualAid" in whole


EVENTS = subclasses(EntryEvent)
MADE_FROM = {
    "emergencyCreated": "requested",
    "emergencyAlert": "alerted",
    "emergencyResponse": "responded",
    "emergencyStatusUpdate": "status",
    "emergencyEscalationAcked": "acknowledged",
    "emergencyAmended": "amended",
}


def _history(users: dict[str, User]) -> None:
    """An emergency with an entry of each kind that events are made from."""
    fields = {**guide_frames.TEST_EMERGENCY, "patientId": "walk_in_1", "vitals": {"pulse": 70}}
    made = request_help(users["nurse_001"], RequestHelp.read(fields)).ack_data or {}
    Emergency.objects.update(escalation_level=2)
    dispatcher = users["admin_001"]
    acknowledge_escalation(dispatcher, AcknowledgeEscalation.read({**made, "note": SECRET}))
    amend(dispatcher, Amend.read({**made, "changes": {"description": SECRET}, "reason": SECRET}))
    respond(users["doctor_123"], Respond.read({**made, "action": "accept", "responseNotes": SECRET}))


def test_each_event_of_an_entry_is_known_here() -> None:
    assert {event.type for event in EVENTS} == set(MADE_FROM)


@pytest.mark.parametrize("event_class", EVENTS, ids=lambda event_class: event_class.type)
def test_each_event_has_a_form_for_each_view_or_is_not_shown_in_it(
    users: dict[str, User], event_class: type[EntryEvent]
) -> None:
    _history(users)
    entry = Entry.objects.select_related("emergency").filter(kind=MADE_FROM[event_class.type]).first()
    assert entry is not None
    for view in View:
        shown = event_class.shown_to(users["nurse_001"], entry, view)
        if shown is not None:
            event = event_class.of_for(entry, shown)
            assert event.type == event_class.type
            assert shown is not View.CALLER or SECRET not in encode(event.as_json()).decode()
    user_ids = [*users]
    subjects = [f"{entry.pk}{view.value}" for view in View]
    rebuilt = event_class.rebuild_for((user_id, subject) for user_id in user_ids for subject in subjects)
    assert ("doctor_123", entry.pk) in rebuilt
