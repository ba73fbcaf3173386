"""Nobody answers: the caller hears it, dispatchers are asked ever rarer, other hospitals help."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from emergency.models import Emergency, Entry, HospitalPolicy
from hplus.accounts.models import Hospital, User
from tests.api import Api
from tests.emergency import guide_frames
from tests.phone import Phone
from tests.servers import ThreadServer

LATER = dict.fromkeys(("critical", "high", "medium", "low"), 3600)


@pytest.fixture
def soon(settings: Any) -> None:
    settings.HPLUS_ESCALATION_SECONDS = {**LATER, "high": 1}


async def _call(patient: Phone) -> dict[str, Any]:
    await patient.send("emergencyRequest", data=guide_frames.create_emergency_request())
    created = await patient.expect("emergencyCreated")
    guide_frames.emergency_request(created["data"])
    return created["data"]


@pytest.mark.usefixtures("soon")
async def test_caller_hears_at_once_that_nobody_is_reachable_and_again_at_level_2(
    server: ThreadServer,
) -> None:
    await HospitalPolicy.objects.acreate(hospital_id="hospital_001", emergency_number="999")
    async with server.phone("patient_123", "patient") as patient:
        created = await _call(patient)
        assert created["alertedCount"] > 3
        assert (created["reachableCount"], created["onDiversion"], created["diversionReason"]) == (
            0, False, None,
        )  # fmt: skip
        first = await patient.expect("notification", category="emergencyUnanswered")
        assert first["data"] == {"emergencyId": created["emergencyId"], "emergencyNumber": "999"}
        assert "999" in first["body"]
        row = await Emergency.objects.aget()
        assert row.escalation_level < 2
        second = await patient.expect("notification", category="emergencyUnanswered")
        assert second["notificationId"] == first["notificationId"]
        assert second["seq"] > first["seq"]
        assert (await Emergency.objects.aget()).escalation_level == 2


async def test_caller_hears_who_is_alerted_and_of_a_diversion(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("admin_001", "admin", "hospital_001") as admin,
        server.phone("nurse_001", "nurse", "hospital_001"),
        server.phone("technician_001", "technician", "hospital_001"),
        server.phone("nurse_002", "nurse", "hospital_002"),
    ):
        await admin.ask("hospitalStatus", onDiversion=True, reason="power failure")
        created = await _call(patient)
        assert (created["reachableCount"], created["onDiversion"], created["diversionReason"]) == (
            2, True, "power failure",
        )  # fmt: skip
        await patient.echo()
        assert not patient.heard("notification"), "somebody can be reached"


@pytest.mark.usefixtures("soon")
async def test_reminders_grow_rarer_in_one_notice_until_a_dispatcher_has_seen_it(
    server: ThreadServer,
) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("admin_001", "admin", "hospital_001") as admin,
        server.phone("admin_002", "admin", "hospital_002") as elsewhere,
    ):
        emergency_id = (await _call(patient))["emergencyId"]
        early = await admin.ask("emergencyEscalationAck", emergencyId=emergency_id)
        assert early["code"] == "INVALID_TRANSITION"
        notices = [await admin.expect("notification", category="emergencyEscalated") for _ in range(3)]
        assert len({notice["notificationId"] for notice in notices}) == 1
        assert notices[0]["data"] == {"emergencyId": emergency_id, "escalationLevel": 2}
        times = [entry.at async for entry in Entry.objects.filter(kind="escalated").order_by("at")]
        pauses = [later - earlier for earlier, later in itertools.pairwise(times[1:])]
        assert [pause >= timedelta(seconds=2**n) for n, pause in enumerate(pauses[:2])] == [True, True]
        assert (await elsewhere.ask("emergencyEscalationAck", emergencyId=emergency_id))[
            "code"
        ] == "EMERGENCY_NOT_FOUND"
        assert (await nurse.ask("emergencyEscalationAck", emergencyId=emergency_id))["code"] == "FORBIDDEN"
        assert (await admin.ask("emergencyEscalationAck", emergencyId=emergency_id))["type"] == "ack"
        for phone in (admin, nurse):
            acked = await phone.expect("emergencyEscalationAcked", emergencyId=emergency_id, by="admin_001")
            assert acked["seq"]
        row = await Emergency.objects.aget()
        assert row.escalate_at is not None
        assert timedelta(seconds=290) < row.escalate_at - timezone.now() <= timedelta(seconds=300)
        await patient.ask("emergencyStatusUpdate", emergencyId=emergency_id, status="cancelled")
        over = await admin.ask("emergencyEscalationAck", emergencyId=emergency_id)
        assert over["code"] == "INVALID_TRANSITION"


@pytest.mark.usefixtures("soon")
async def test_mutual_aid_takes_it_over_and_both_keep_their_part(
    server: ThreadServer, users: dict[str, User]
) -> None:
    policy = await HospitalPolicy.objects.acreate(hospital_id="hospital_001")
    await policy.mutual_aid.aadd("hospital_002")
    third = await Hospital.objects.acreate(hospital_id="hospital_003", name="Third")
    await User.objects.acreate(user_id="nurse_003", role="nurse", hospital=third)
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("admin_001", "admin", "hospital_001") as admin,
        server.phone("doctor_002", "doctor", "hospital_002") as helper,
        server.phone("technician_002", "technician", "hospital_002") as technician,
        server.phone("nurse_003", "nurse", "hospital_003") as stranger,
    ):
        emergency_id = (await _call(patient))["emergencyId"]
        accept = guide_frames.respond(emergency_id, "accept")
        assert (await helper.ask("emergencyResponse", data=accept))["code"] == "EMERGENCY_NOT_FOUND"
        asked = await helper.expect("emergencyAlert", emergencyId=emergency_id)
        assert (asked["mutualAid"], asked["data"]["mutualAid"]) == (True, True)
        assert guide_frames.alert(asked)["hospitalId"] == "hospital_001"
        assert "mutualAid" not in (await nurse.expect("emergencyAlert"))
        async with server.phone("nurse_002", "nurse", "hospital_002") as late:
            assert (await late.expect("emergencyAlert", emergencyId=emergency_id))["mutualAid"]
        for request in (
            ("emergencyStatusUpdate", {"status": "cancelled"}),
            ("emergencyAmend", {"changes": {"priority": "low"}, "reason": "x"}),
            ("emergencyTransfer", {"toHospitalId": "hospital_002", "reason": "x"}),
            ("emergencyEscalationAck", {}),
        ):
            refused = await helper.ask(request[0], emergencyId=emergency_id, **request[1])
            assert refused["code"] == "FORBIDDEN", request
        assert (await stranger.ask("emergencyResponse", data=accept))["code"] == "EMERGENCY_NOT_FOUND"
        assert (await helper.ask("emergencyResponse", data=accept))["type"] == "ack"
        for phone in (patient, nurse, admin, helper):
            taken = (await phone.expect("emergencyResponse", action="accept"))["data"]
            assert (taken["responderId"], taken["emergency"]["hospitalId"]) == ("doctor_002", "hospital_002")
        lost = await nurse.ask("emergencyResponse", data=accept)
        assert lost["code"] == "EMERGENCY_ALREADY_ASSIGNED"
        await helper.ask(
            "emergencyStatusUpdate", emergencyId=emergency_id, phase="onScene", notes="intubated"
        )
        await patient.expect("emergencyStatusUpdate", phase="onScene")
        for phone in (technician, stranger):
            await phone.ask("joinHospital", hospitalId=phone.established["hospitalId"])
            assert not phone.heard("emergencyAlert")
        assert not nurse.heard("emergencyStatusUpdate")
    path = f"emergencies/{emergency_id}/"
    async with Api(server, "doctor_123") as client:
        kept = (await client.get(f"{path}part/")).json()
        assert (await client.get(path)).status_code == 404
    assert (kept["hospitalId"], kept["emergency"]["status"]) == ("hospital_001", "accepted")
    assert {"requested", "alerted", "escalated", "transferred"} <= {e["kind"] for e in kept["entries"]}
    assert "intubated" not in str(kept)
    async with Api(server, "doctor_002") as client:
        assert (await client.get(path)).json()["phase"] == "onScene"
        assert "intubated" in (await client.get(f"{path}timeline/")).text
        assert (await client.get(f"{path}part/")).status_code == 404
    async with Api(server, "pharmacist_001") as client:
        assert (await client.get(f"{path}part/")).status_code == 403
