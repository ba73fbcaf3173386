"""Somebody calls for a stranger: the caller hears who comes, and reads nothing of the chart."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx
from django.utils import timezone

from emergency.models import Emergency
from hplus.management.commands.seed_demo import PASSWORD
from hplus.protocol.wire import encode
from location.models import Grant
from tests.emergency import guide_frames
from tests.phone import Phone
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS

SECRET = "HIV positive"


async def _call_for_patient_123(caller: Phone, **given: Any) -> str:
    answer = await caller.ask("emergencyRequest", data={**guide_frames.TEST_EMERGENCY, **given})
    return str(answer["data"]["emergencyId"])


def _client(server: ThreadServer, user_id: str) -> httpx.Client:
    http = httpx.Client(base_url=server.url, timeout=PATIENCE_SECONDS)
    signed_in = http.post("/api/auth/token/", json={"userId": user_id, "password": PASSWORD})
    http.headers["Authorization"] = f"Bearer {signed_in.json()['access']}"
    return http


async def _treat(crew: Phone, emergency_id: str) -> None:
    """From the acceptance to the end, with a secret in each free field."""
    accept = guide_frames.respond(emergency_id, "accept", estimatedArrival="5 min", responseNotes=SECRET)
    await crew.ask("emergencyResponse", data=accept)
    chart = {"notes": SECRET, "vitals": {"pulse": 135, "history": SECRET}}
    await crew.ask(
        "emergencyStatusUpdate",
        data=guide_frames.update_status(emergency_id, "in_progress", phase="onScene", **chart),
    )
    details = {"diagnosis": SECRET}
    done = guide_frames.update_status(emergency_id, "completed", notes=SECRET, completionDetails=details)
    assert (await crew.ask("emergencyStatusUpdate", data=done))["type"] == "ack"


async def test_caller_who_is_not_the_patient_hears_who_comes_and_nothing_of_the_chart(
    server: ThreadServer,
) -> None:
    async with (
        server.phone("test_user", "patient") as caller,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        emergency_id = await _call_for_patient_123(caller, vitals={"pulse": 70})
        await _treat(crew, emergency_id)
        taken = (await caller.expect("emergencyResponse"))["data"]
        assert (taken["responderName"], taken["estimatedArrival"], taken["responseNotes"]) == (
            "Kit Harbor",
            "5 min",
            None,
        )
        arrived = (await caller.expect("emergencyStatusUpdate", phase="onScene"))["data"]
        assert (arrived["notes"], arrived["vitals"], arrived["emergency"]["news2"]) == (None, None, None)
        closed = (await caller.expect("emergencyStatusUpdate", status="completed"))["data"]
        assert closed["completionDetails"] is None
        shown = guide_frames.emergency_request(closed["emergency"])
        assert (shown["condition"], shown["vitals"], shown["warnings"]) == ("Test emergency", None, [])
        assert SECRET not in json.dumps(caller.history)
        full = (await doctor.expect("emergencyStatusUpdate", status="completed"))["data"]
        assert (full["completionDetails"], full["notes"]) == ({"diagnosis": SECRET}, SECRET)
        epoch = caller.established["epoch"]
    async with server.phone("test_user", "patient", since=0, epoch=epoch) as caller:
        await caller.expect("emergencyStatusUpdate", status="completed")
        await caller.echo()
        assert SECRET not in json.dumps(caller.history), "a replay tells no more"
    http = _client(server, "test_user")
    one = http.get(f"/api/emergencies/{emergency_id}/")
    assert (one.status_code, one.json()["status"], one.json()["news2"]) == (200, "completed", None)
    assert SECRET not in one.text + http.get("/api/emergencies/").text
    for part in ("timeline/", "fhir/", "track.geojson"):
        refused = http.get(f"/api/emergencies/{emergency_id}/{part}")
        assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
        assert _client(server, "doctor_123").get(f"/api/emergencies/{emergency_id}/{part}").status_code == 200


async def test_caller_who_is_not_the_patient_sees_nothing_a_day_after_the_end(server: ThreadServer) -> None:
    async with (
        server.phone("test_user", "patient") as caller,
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
    ):
        theirs = await _call_for_patient_123(caller)
        await _treat(crew, theirs)
        own = await _call_for_patient_123(patient)
        await _treat(crew, own)
        epoch = caller.established["epoch"]
    ended_at = timezone.now() - timedelta(hours=25)
    await Emergency.objects.aupdate(completed_at=ended_at)
    async with server.phone("test_user", "patient", since=0, epoch=epoch) as caller:
        await caller.echo()
        assert {frame["type"] for frame in caller.history} == {
            "connection_established", "ack", "hospitalJoined",
        }  # fmt: skip
    assert _client(server, "test_user").get(f"/api/emergencies/{theirs}/").status_code == 404
    assert _client(server, "patient_123").get(f"/api/emergencies/{own}/").status_code == 200


async def test_named_person_is_opened_only_by_the_own_confirmation(server: ThreadServer) -> None:
    async with (
        server.phone("test_user", "patient") as caller,
        server.phone("patient_123", "patient") as named,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        emergency_id = await _call_for_patient_123(caller)
        question = await named.expect("notification", category="areYouThePatient")
        assert sorted(question["data"]) == ["emergencyId", "hospitalId", "hospitalName", "requestedAt"]
        assert "Test emergency" not in encode(question).decode()
        assert (await nurse.ask("locationRequest", targetUserId="patient_123"))["code"] == "FORBIDDEN"
        assert _client(server, "patient_123").get(f"/api/emergencies/{emergency_id}/").status_code == 404
        answer = {"emergencyId": emergency_id, "isMe": True}
        for other in (caller, nurse):
            refused = await other.ask("emergencyConfirmPatient", **answer)
            assert refused["code"] == "EMERGENCY_NOT_FOUND"
        for _ in range(2):
            assert (await named.ask("emergencyConfirmPatient", **answer))["type"] == "ack"
        assert len([each async for each in Grant.objects.filter(subject="patient_123", closed_at=None)]) == 1
        asked = await nurse.ask("locationRequest", targetUserId="patient_123")
        assert asked["code"] == "LOCATION_UNAVAILABLE", "the right is there, a position is not yet"
        assert (await caller.ask("locationRequest", targetUserId="patient_123"))["code"] == "FORBIDDEN"
        assert _client(server, "patient_123").get(f"/api/emergencies/{emergency_id}/").status_code == 200
        other_answer = await named.ask("emergencyConfirmPatient", emergencyId=emergency_id, isMe=False)
        assert other_answer["code"] == "INVALID_TRANSITION"


async def test_named_person_who_denies_stays_closed_and_the_staff_are_warned(server: ThreadServer) -> None:
    async with (
        server.phone("test_user", "patient") as caller,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        emergency_id = await _call_for_patient_123(caller)
        path = f"/api/emergencies/{emergency_id}/confirm-patient/"
        answered = _client(server, "patient_123").post(path, json={"isMe": False})
        assert answered.status_code == 200
        told = await nurse.expect("emergencyStatusUpdate", status="pending")
        assert told["data"]["emergency"]["warnings"] == ["patientId"]
        assert (await nurse.ask("locationRequest", targetUserId="patient_123"))["code"] == "FORBIDDEN"
        assert not await Grant.objects.filter(subject="patient_123").aexists()
