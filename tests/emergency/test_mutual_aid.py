"""Hospitals that are asked to help hear of an emergency while nobody has it, how that ended, and no more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from emergency.models import AidRequest, Alert, Emergency, HospitalPolicy
from hplus.accounts.models import Hospital, User
from hplus.protocol.wire import encode
from hplus.realtime.models import Contact
from tests.phone import Phone
from tests.servers import ThreadServer
from tests.stories.test_charts import SECRET, call, http_of, readings

LATER = dict.fromkeys(("critical", "high", "medium", "low"), 3600)
THIRD = "hospital_003"


@pytest.fixture
async def aid(users: dict[str, User], settings: Any) -> None:
    """hospital_001 has two others that help, and nothing escalates unless it is made due."""
    settings.HPLUS_ESCALATION_SECONDS = LATER
    policy = await HospitalPolicy.objects.acreate(hospital_id="hospital_001", escalation_seconds=LATER)
    third = await Hospital.objects.acreate(hospital_id=THIRD, name="Third")
    await User.objects.acreate(user_id="nurse_003", role="nurse", hospital=third)
    await policy.mutual_aid.aset(["hospital_002", THIRD])


async def ask_for_aid(emergency_id: str) -> None:
    """Make the last level due: the running server asks the other hospitals."""
    row = Emergency.objects.filter(pk=emergency_id)
    assert await row.aupdate(escalation_level=2, escalate_at=timezone.now()) == 1


async def called(caller: Phone, *helpers: Phone) -> str:
    """Call for help; the helpers have been asked when it returns."""
    emergency_id = await call(caller)
    await ask_for_aid(emergency_id)
    for helper in helpers:
        await helper.expect("emergencyAlert", emergencyId=emergency_id)
    return emergency_id


async def respond(phone: Phone, emergency_id: str, action: str = "accept", **more: Any) -> dict[str, Any]:
    return await phone.ask("emergencyResponse", emergencyId=emergency_id, action=action, **more)


def heard_of(phone: Phone, emergency_id: str) -> list[str]:
    """The types of what has come about it, without its alerts."""
    about = [frame for frame in phone.history if emergency_id in encode(frame).decode()]
    return [frame["type"] for frame in about if frame["type"] not in ("emergencyAlert", "ack", "error")]


def helper_of(server: ThreadServer, **query: Any) -> Phone:
    return server.phone("doctor_002", "doctor", "hospital_002", **query)


async def test_helpers_hear_who_has_accepted_and_then_no_more(server: ThreadServer, aid: None) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        helper_of(server) as helper,
    ):
        emergency_id = await called(patient, helper)
        about = Contact.objects.filter(topic=emergency_id)
        assert await about.filter(contact="doctor_002").aexists()
        assert (await respond(nurse, emergency_id))["type"] == "ack"
        taken = (await helper.expect("emergencyResponse", emergencyId=emergency_id))["data"]
        assert (taken["action"], taken["responderId"]) == ("accept", "nurse_001")
        chart = {"phase": "onScene", "notes": "intubated", "vitals": {"pulse": 140}}
        assert (await nurse.ask("emergencyStatusUpdate", emergencyId=emergency_id, **chart))["type"] == "ack"
        await patient.expect("emergencyStatusUpdate", phase="onScene")
        await helper.echo()
        assert heard_of(helper, emergency_id) == ["emergencyResponse"]
        assert not await about.filter(contact="doctor_002").aexists(), "nor who is online"
        assert await about.filter(contact="nurse_001").aexists()
        assert not await AidRequest.objects.aexists()
        late = await respond(helper, emergency_id)
        assert (late["code"], late["details"]["assignedTo"]) == ("EMERGENCY_ALREADY_ASSIGNED", "nurse_001")
        assert SECRET not in encode(late).decode()
        epoch = helper.established["epoch"]
    assert http_of(server, "doctor_002").get(f"/api/emergencies/{emergency_id}/").status_code == 404
    async with helper_of(server, since=0, epoch=epoch) as helper:
        await helper.echo()
        assert len(helper.heard("emergencyAlert")) == 1
        assert heard_of(helper, emergency_id) == ["emergencyResponse"], "a replay gives the same"
        assert "intubated" not in encode({"frames": helper.history}).decode()


ENDS = {
    "cancelled": ("emergencyStatusUpdate", {"status": "cancelled", "notes": "a drill"}),
    "assigned": ("emergencyReassign", {"assigneeId": "paramedic_456", "reason": "is next to it"}),
    "transferred": ("emergencyTransfer", {"toHospitalId": THIRD, "reason": "burns unit"}),
}


@pytest.mark.parametrize("end", ENDS)
async def test_helpers_hear_once_that_it_is_over_for_them(server: ThreadServer, aid: None, end: str) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("admin_001", "admin", "hospital_001") as admin,
        helper_of(server) as helper,
    ):
        emergency_id = await called(patient, helper)
        request, fields = ENDS[end]
        assert (await admin.ask(request, emergencyId=emergency_id, **fields))["type"] == "ack"
        last = (await helper.expect("emergencyStatusUpdate", emergencyId=emergency_id))["data"]
        expected = {"cancelled": "cancelled", "assigned": "accepted", "transferred": "pending"}[end]
        assert last["status"] == expected
        if end == "assigned":
            assert last["emergency"]["assignedTo"] == "paramedic_456"
            await admin.ask("emergencyStatusUpdate", emergencyId=emergency_id, phase="enRoute")
            await patient.expect("emergencyStatusUpdate", phase="enRoute")
        if end == "transferred":
            assert last["emergency"]["hospitalId"] == THIRD
        await helper.echo()
        assert heard_of(helper, emergency_id) == ["emergencyStatusUpdate"]
        codes = {"cancelled": "INVALID_TRANSITION", "assigned": "EMERGENCY_ALREADY_ASSIGNED"}
        late = await respond(helper, emergency_id)
        assert late["code"] == codes.get(end, "EMERGENCY_NOT_FOUND")
    elsewhere = Alert.objects.filter(user__hospital="hospital_002")
    assert not await AidRequest.objects.aexists()
    assert not await elsewhere.aexists()


async def _given_back(server: ThreadServer, nurse: Phone, patient: Phone, emergency_id: str) -> None:
    await respond(nurse, emergency_id)
    assert (await respond(nurse, emergency_id, "reject", rejectionReason="flat tyre"))["type"] == "ack"


async def _taken_by_the_clock(server: ThreadServer, nurse: Phone, patient: Phone, emergency_id: str) -> None:
    """A crew without a connection accepts over HTTP and gives no sign."""
    accepted = http_of(server, "paramedic_456").post(
        f"/api/emergencies/{emergency_id}/response/", json={"action": "accept"}
    )
    assert accepted.status_code == 200, accepted.text
    await HospitalPolicy.objects.filter(pk="hospital_001").aupdate(limit_seconds={"unreachable": 0})
    await Emergency.objects.filter(pk=emergency_id).aupdate(check_at=timezone.now() - timedelta(seconds=1))
    await nurse.expect("emergencyStatusUpdate", status="pending", updatedBy="system")


async def _reopened(server: ThreadServer, nurse: Phone, patient: Phone, emergency_id: str) -> None:
    async with server.phone("admin_001", "admin", "hospital_001") as admin:
        await admin.ask("emergencyStatusUpdate", emergencyId=emergency_id, status="cancelled", notes="x")
    await patient.expect("notification", category="emergencyCancelled")
    objected = await patient.ask("emergencyAmend", emergencyId=emergency_id, changes={}, reason="I need help")
    assert objected["type"] == "ack", objected


@pytest.mark.parametrize("restart", [_given_back, _taken_by_the_clock, _reopened])
async def test_emergency_that_is_pending_again_asks_the_helpers_anew(
    server: ThreadServer, aid: None, restart: Any
) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        helper_of(server) as helper,
    ):
        emergency_id = await called(patient, helper)
        await restart(server, nurse, patient, emergency_id)
        await nurse.echo()
        await helper.echo()
        first = helper.history.index(helper.heard("emergencyAlert")[0])
        since = [frame["type"] for frame in helper.history[first + 1 :]]
        assert len([each for each in since if each.startswith("emergency")]) == 1, since
        assert (await respond(helper, emergency_id))["type"] == "error", "is not asked now"
        await ask_for_aid(emergency_id)
        again = await helper.expect("emergencyAlert", emergencyId=emergency_id)
        assert again["mutualAid"] is True
        assert (await respond(helper, emergency_id))["type"] == "ack"


async def test_others_that_were_asked_hear_who_takes_it_over(server: ThreadServer, aid: None) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        helper_of(server) as helper,
        server.phone("nurse_003", "nurse", THIRD) as other,
    ):
        emergency_id = await called(patient, helper, other)
        assert (await respond(helper, emergency_id))["type"] == "ack"
        for phone in (patient, nurse, other):
            taken = (await phone.expect("emergencyResponse", action="accept"))["data"]
            assert (taken["responderId"], taken["emergency"]["hospitalId"]) == ("doctor_002", "hospital_002")
        for phone in (other, nurse):
            late = await respond(phone, emergency_id)
            assert late["code"] == "EMERGENCY_ALREADY_ASSIGNED"
            assert SECRET not in encode(late).decode()
        await helper.ask("emergencyStatusUpdate", emergencyId=emergency_id, phase="onScene", notes="burns")
        await patient.expect("emergencyStatusUpdate", phase="onScene")
        for phone in (other, nurse):
            await phone.echo()
            assert heard_of(phone, emergency_id) == ["emergencyResponse"]
        async with server.phone("technician_002", "technician", "hospital_002") as unasked:
            assert (await respond(unasked, emergency_id))["code"] == "FORBIDDEN"
        async with server.phone("admin_002", "admin", "hospital_002") as admin:
            assert (await respond(admin, emergency_id))["code"] == "EMERGENCY_ALREADY_ASSIGNED"


async def test_who_was_alerted_there_reads_what_there_is_to_accept(server: ThreadServer, aid: None) -> None:
    async with server.phone("patient_123", "patient") as patient, helper_of(server) as helper:
        emergency_id = await called(patient, helper)
    path = f"/api/emergencies/{emergency_id}/"
    doctor, technician = http_of(server, "doctor_002"), http_of(server, "technician_002")
    shown = doctor.get(path)
    assert (shown.status_code, shown.json()["condition"]) == (200, SECRET)
    [listed] = doctor.get("/api/emergencies/").json()["emergencies"]
    assert (listed["emergencyId"], listed["condition"]) == (emergency_id, SECRET)
    async with helper_of(server) as helper:
        [greeted] = helper.established["data"]["activeEmergencies"]
        assert greeted["condition"] == SECRET
    for part in ("timeline/", "fhir/", "track.geojson", "calls/"):
        assert doctor.get(path + part).status_code == 403, part
    assert technician.get(path).status_code == 403
    assert technician.get("/api/emergencies/").json()["emergencies"] == []
    whose = {emergency_id: "patient_123"}
    assert await readings("doctor_002") == [(surface, whose) for surface in ("detail", "list", "greeting")]
    assert await readings("technician_002") == []


async def test_caller_hears_that_all_have_declined_when_the_helpers_have_too(
    server: ThreadServer, aid: None
) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        helper_of(server) as helper,
    ):
        emergency_id = await called(patient, helper)
        await respond(nurse, emergency_id, "reject")
        await nurse.expect("emergencyResponse", action="reject")
        await patient.echo()
        assert not patient.heard("emergencyResponse"), "a helper has not declined"
        await respond(helper, emergency_id, "reject")
        await patient.expect("emergencyResponse", action="reject")
