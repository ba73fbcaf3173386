"""The crew, the admin and the caller correct what is known of an emergency, and all hear of it."""

from __future__ import annotations

from typing import Any

import httpx

from emergency.models import Emergency
from hplus.management.commands.seed_demo import PASSWORD
from location.models import Grant
from tests.emergency import guide_frames
from tests.phone import Phone
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS

ELSEWHERE = {"lat": 37.7849, "lng": -122.4194, "address": "12 Pier Street"}


async def _call(patient: Phone, **given: Any) -> str:
    answer = await patient.ask("emergencyRequest", data=guide_frames.create_emergency_request(**given))
    return str(answer["data"]["emergencyId"])


def _amend(emergency_id: str, reason: str = "caller corrected it", **changes: Any) -> dict[str, Any]:
    return {"emergencyId": emergency_id, "changes": changes, "reason": reason}


async def _post(server: ThreadServer, user_id: str, path: str, body: dict[str, Any]) -> int:
    """The HTTP status of this request."""
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_SECONDS) as http:
        signed_in = await http.post("/api/auth/token/", json={"userId": user_id, "password": PASSWORD})
        http.headers["Authorization"] = f"Bearer {signed_in.json()['access']}"
        return (await http.post(path, json=body)).status_code


async def test_amendment_reaches_everybody_concerned_with_the_value_before(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("admin_001", "admin", "hospital_001") as admin,
        server.phone("admin_002", "admin", "hospital_002") as elsewhere,
    ):
        emergency_id = await _call(patient)
        assert (await nurse.ask("emergencyAmend", **_amend(emergency_id, priority="low")))[
            "code"
        ] == "FORBIDDEN"
        foreign = await elsewhere.ask("emergencyAmend", **_amend(emergency_id, priority="low"))
        assert foreign["code"] == "EMERGENCY_NOT_FOUND"
        await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
        request = _amend(emergency_id, priority="critical", patientAge=8, location=ELSEWHERE)
        done = await crew.ask("emergencyAmend", **request)
        for phone in (patient, crew, nurse, admin):
            told = await phone.expect("emergencyAmended")
            assert isinstance(told["seq"], int)
            changed = told["data"]["changed"]
            assert changed["priority"] == {"from": "high", "to": "critical"}
            assert changed["patientAge"] == {"from": None, "to": 8}
            assert changed["location"]["to"] == ELSEWHERE
            assert (told["data"]["by"], told["data"]["reason"]) == ("paramedic_456", "caller corrected it")
            update = (await phone.expect("emergencyStatusUpdate", notes="caller corrected it"))["data"]
            assert (update["status"], update["previousStatus"]) == ("accepted", "accepted")
            shown = guide_frames.emergency_request(update["emergency"])
            assert (shown["priority"], shown["location"], shown["patientAge"]) == ("critical", ELSEWHERE, 8)
            assert shown["version"] == done["data"]["version"]
        grant = await Grant.objects.filter(subject="paramedic_456", to_hospital="hospital_001").afirst()
        assert grant is not None
        assert grant.destination == (ELSEWHERE["lat"], ELSEWHERE["lng"])
        assert (await crew.ask("emergencyAmend", **request))["type"] == "ack"
        for phone in (patient, crew):
            await phone.echo()
            assert len(phone.heard("emergencyAmended")) == 1, "the same values change nothing"
        assert not elsewhere.heard("emergencyAmended")


async def test_amendment_of_another_version_is_refused(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        emergency_id = await _call(patient)
        seen = guide_frames.alert(await admin.expect("emergencyAlert"))["version"]
        first = await admin.ask("emergencyAmend", **_amend(emergency_id, condition="Stroke"), version=seen)
        assert first["data"]["version"] == seen + 1
        late = await admin.ask("emergencyAmend", **_amend(emergency_id, condition="Fall"), version=seen)
        assert (late["code"], late["details"]) == ("VERSION_CONFLICT", {"version": seen + 1})
        empty = await admin.ask("emergencyAmend", **_amend(emergency_id))
        assert (empty["code"], empty["details"]["field"]) == ("VALIDATION_ERROR", "changes")
        cancelled = guide_frames.update_status(emergency_id, "cancelled", notes="false alarm")
        await admin.ask("emergencyStatusUpdate", data=cancelled)
        over = await admin.ask("emergencyAmend", **_amend(emergency_id, condition="Fall"))
        assert over["code"] == "INVALID_TRANSITION"


async def test_requester_amends_the_place_and_not_the_priority(server: ThreadServer) -> None:
    async with (
        server.phone("test_user", "patient") as caller,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        emergency_id = await _call(caller)
        await nurse.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "reject"))
        refused = await caller.ask("emergencyAmend", **_amend(emergency_id, priority="critical"))
        assert (refused["code"], refused["details"]["field"]) == ("FORBIDDEN", "priority")
        request = _amend(emergency_id, location=ELSEWHERE, accessNotes="entry code 4711")
        assert (await caller.ask("emergencyAmend", **request))["type"] == "ack"
        told = (await caller.expect("emergencyAmended"))["data"]
        assert sorted(told["changed"]) == ["accessNotes", "location"]
        await nurse.expect("emergencyAlert", emergencyId=emergency_id)
        again = guide_frames.alert(await nurse.expect("emergencyAlert", emergencyId=emergency_id))
        assert (again["location"], again["accessNotes"]) == (ELSEWHERE, "entry code 4711")


async def test_caller_who_is_not_the_patient_hears_no_clinical_amendment(server: ThreadServer) -> None:
    async with (
        server.phone("test_user", "patient") as caller,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        emergency_id = await _call(caller)
        request = _amend(emergency_id, "from the record", condition="HIV positive", priority="critical")
        await admin.ask("emergencyAmend", **request)
        told = (await caller.expect("emergencyAmended"))["data"]
        assert (told["changed"], told["reason"]) == ({"priority": {"from": "high", "to": "critical"}}, None)
        assert told["emergency"]["condition"] == "Chest pain"
        assert (await admin.expect("emergencyAmended"))["data"]["emergency"]["condition"] == "HIV positive"


async def test_priority_in_a_status_update_is_an_amendment(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        emergency_id = await _call(patient)
        await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
        update = guide_frames.update_status(
            emergency_id, "in_progress", priority="critical", location=ELSEWHERE
        )
        assert (await crew.ask("emergencyStatusUpdate", data=update))["data"] == {"emergencyId": emergency_id}
        told = (await doctor.expect("emergencyAmended"))["data"]["changed"]
        assert sorted(told) == ["location", "priority"]
        heard = (await doctor.expect("emergencyStatusUpdate", status="in_progress"))["data"]["emergency"]
        assert (heard["priority"], heard["location"]) == ("critical", ELSEWHERE)
        unreadable = guide_frames.update_status(emergency_id, "in_progress", priority="asap", location="here")
        named = await crew.ask("emergencyStatusUpdate", data=unreadable)
        assert named["data"]["warnings"] == ["priority", "location"]

        second = await _call(patient)
        cancel = guide_frames.update_status(second, "cancelled", priority="low")
        assert (await patient.ask("emergencyStatusUpdate", data=cancel))["data"]["warnings"] == ["priority"]
        assert (await Emergency.objects.aget(pk=second)).priority == "high"


async def test_higher_priority_alerts_again_and_hastens_the_escalation(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        emergency_id = await _call(patient, priority="low")
        first = await Emergency.objects.aget()
        request = {"changes": {"priority": "critical"}, "reason": "not breathing"}
        assert await _post(server, "admin_001", f"/api/emergencies/{emergency_id}/amend/", request) == 200
        assert guide_frames.alert(await nurse.expect("emergencyAlert", priority="critical"))
        assert (await admin.expect("emergencyAmended"))["data"]["by"] == "admin_001"
        row = await Emergency.objects.aget()
        assert first.escalate_at is not None
        assert row.escalate_at is not None
        assert row.escalate_at < first.escalate_at
        await admin.ask("emergencyAmend", **_amend(emergency_id, priority="low"))
        await nurse.echo()
        assert len(nurse.heard("emergencyAlert")) == 2, "a lower priority alerts nobody"
