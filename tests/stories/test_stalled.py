"""After "accepted" somebody watches: who is silent is asked, who can't be reached is released."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from emergency.models import Emergency, Entry
from hplus.accounts.models import User
from hplus.notifications.models import Notification
from tests.emergency import guide_frames
from tests.phone import Phone
from tests.servers import ProcessServer, ThreadServer
from tests.waiting import until

NEVER = 3600
HERE = {"lat": 37.77, "lng": -122.41, "accuracy": 5.0}


@pytest.fixture
def limits(settings: Any) -> dict[str, int]:
    """The limits of this test: what it doesn't set never passes."""
    settings.HPLUS_STALL_SECONDS = {"acknowledge": NEVER, "turnout": NEVER, "unreachable": NEVER}
    return settings.HPLUS_STALL_SECONDS


async def _call(patient: Phone) -> str:
    asked = await patient.ask("emergencyRequest", data=guide_frames.create_emergency_request())
    return str(asked["data"]["emergencyId"])


async def _accepted(patient: Phone, crew: Phone) -> str:
    emergency_id = await _call(patient)
    await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
    return emergency_id


async def _stalled(phone: Phone) -> dict[str, Any]:
    notice = await phone.expect("notification", category="emergencyStalled")
    assert notice["priority"] == "urgent"
    return notice


async def test_unreachable_crew_is_reported_then_released(
    server: ThreadServer, limits: dict[str, int]
) -> None:
    limits["unreachable"] = 1
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("admin_001", "admin", "hospital_001") as admin,
        server.phone("admin_002", "admin", "hospital_002") as elsewhere,
    ):
        async with server.phone("paramedic_456", "paramedic", "hospital_001") as crew:
            emergency_id = await _accepted(patient, crew)
            await nurse.expect("emergencyAlert", emergencyId=emergency_id)
        told = await _stalled(admin)
        assert told["data"] == {"emergencyId": emergency_id, "cause": "unreachable"}
        assert not patient.heard("notification")
        heard = (await patient.expect("emergencyStatusUpdate", previousStatus="accepted"))["data"]
        assert (heard["status"], heard["updatedBy"], heard["notes"]) == (
            "pending", "system",
            "Released by HPlus: Kit Harbor has no connection and sends no position.",
        )  # fmt: skip
        guide_frames.emergency_request(heard["emergency"])
        again = guide_frames.alert(await nurse.expect("emergencyAlert", emergencyId=emergency_id))
        assert (again["status"], again["assignedTo"]) == ("pending", None)
        assert (await nurse.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept")))[
            "type"
        ] == "ack"
        kinds = [entry.kind async for entry in Entry.objects.order_by("at")]
        assert kinds.index("stalled") < kinds.index("released")
        async with server.phone("paramedic_456", "paramedic", "hospital_001") as crew:
            late = await crew.ask("emergencyStatusUpdate", emergencyId=emergency_id, phase="onScene")
            assert late["code"] == "FORBIDDEN"
        own = await Notification.objects.aget(recipient="paramedic_456")
        assert (own.category, own.data) == ("emergencyStalled", told["data"])
        await elsewhere.ask("joinHospital", hospitalId="hospital_002")
        assert not elsewhere.heard("notification")


async def test_position_or_connection_is_a_sign_of_the_crew(
    server: ThreadServer, limits: dict[str, int]
) -> None:
    limits["unreachable"] = limits["turnout"] = 1
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        emergency_id = await _accepted(patient, crew)
        await crew.ask("locationUpdate", location=HERE, isEmergency=True, emergencyId=emergency_id)
        first = (await Emergency.objects.aget()).check_at
        assert first is not None

        async def was_checked() -> bool:
            row = await Emergency.objects.aget()
            return row.check_at is not None and row.check_at > first

        await until(was_checked)
        await admin.echo()
        assert not admin.heard("notification")
        assert not crew.heard("notification")
        assert (await Emergency.objects.aget()).status == "accepted"


async def test_crew_that_does_not_set_out_is_asked_rarer_and_never_released(
    server: ThreadServer, limits: dict[str, int]
) -> None:
    limits["turnout"] = 1
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("admin_001", "admin", "hospital_001") as admin,
        server.phone("admin_002", "admin", "hospital_002") as elsewhere,
    ):
        emergency_id = await _accepted(patient, crew)
        early = await admin.ask("emergencyEscalationAck", emergencyId=emergency_id)
        assert early["code"] == "INVALID_TRANSITION", "nobody was asked yet"
        told = [await _stalled(phone) for phone in (crew, admin, admin, admin)]
        assert {notice["data"]["cause"] for notice in told} == {"turnout"}
        assert len({notice["notificationId"] for notice in told[1:]}) == 1, "one open notice"
        stalls = [entry.at async for entry in Entry.objects.filter(kind="stalled").order_by("at")]
        assert stalls[1] - stalls[0] >= timedelta(seconds=1)
        assert stalls[2] - stalls[1] >= timedelta(seconds=2)
        row = await Emergency.objects.aget()
        assert (row.status, row.assigned_to_id) == ("accepted", "paramedic_456")

        ack = {"emergencyId": emergency_id, "note": "on the radio"}
        assert (await nurse.ask("emergencyEscalationAck", **ack))["code"] == "FORBIDDEN"
        assert (await elsewhere.ask("emergencyEscalationAck", **ack))["code"] == "EMERGENCY_NOT_FOUND"
        assert (await admin.ask("emergencyEscalationAck", **ack))["type"] == "ack"
        for phone in (admin, nurse, crew):
            acked = await phone.expect("emergencyEscalationAcked")
            assert (acked["emergencyId"], acked["by"]) == (emergency_id, "admin_001")
            assert acked["seq"]
        row = await Emergency.objects.aget()
        assert row.check_at is not None
        assert 290 < (row.check_at - timezone.now()).total_seconds() <= 300
        twice = await admin.ask("emergencyEscalationAck", **ack)
        assert twice["code"] == "INVALID_TRANSITION"
        await patient.echo()
        assert not patient.heard("emergencyEscalationAcked")


async def test_assignment_that_is_not_acknowledged_is_taken_back(
    server: ThreadServer, limits: dict[str, int]
) -> None:
    limits["acknowledge"] = 1
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        emergency_id = await _call(patient)
        await doctor.expect("emergencyAlert", emergencyId=emergency_id)
        given = {"emergencyId": emergency_id, "reason": "nearest"}
        await admin.ask("emergencyReassign", assigneeId="nurse_001", **given)
        for phone in (nurse, admin):
            assert (await _stalled(phone))["data"]["cause"] == "acknowledge"
        await patient.expect("emergencyStatusUpdate", previousStatus="accepted", status="pending")
        await doctor.expect("emergencyAlert", emergencyId=emergency_id)
        await admin.ask("emergencyReassign", assigneeId="doctor_123", **given)
        accept = guide_frames.respond(emergency_id, "accept")
        assert (await doctor.ask("emergencyResponse", data=accept))["type"] == "ack"
        assert (await patient.expect("emergencyResponse"))["data"]["responderId"] == "doctor_123"
        row = await Emergency.objects.aget()
        assert row.acknowledged_at is not None
        assert (row.status, row.assigned_to_id, row.stalled_cause) == ("accepted", "doctor_123", "")
        await admin.ask("emergencyReassign", assigneeId="admin_001", **given)
        assert (await Emergency.objects.aget()).acknowledged_at is not None, "one's own is acknowledged"


async def test_patient_on_board_stays_with_a_crew_that_cant_be_reached(
    server: ThreadServer, limits: dict[str, int]
) -> None:
    limits["unreachable"] = 1
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        async with server.phone("paramedic_456", "paramedic", "hospital_001") as crew:
            emergency_id = await _accepted(patient, crew)
            await crew.ask("emergencyStatusUpdate", emergencyId=emergency_id, phase="transporting")
        for _ in range(3):
            await _stalled(admin)
        row = await Emergency.objects.aget()
        assert (row.status, row.phase, row.assigned_to_id) == (
            "in_progress", "transporting", "paramedic_456",
        )  # fmt: skip


async def test_stall_that_is_due_during_a_restart_is_noticed_after_it(users: dict[str, User]) -> None:
    limits = {"HPLUS_STALL_SECONDS": "acknowledge=600,turnout=600,unreachable=2"}
    with ProcessServer(None, **limits) as server:
        async with (
            server.phone("patient_123", "patient") as patient,
            server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        ):
            await _accepted(patient, crew)
            server.kill()
        due_at = (await Emergency.objects.aget()).check_at
        assert due_at is not None
        await until(lambda: timezone.now() >= due_at)
        assert not await Notification.objects.filter(category="emergencyStalled").aexists()
        server.start()
        async with server.phone("admin_001", "admin", "hospital_001") as admin:
            await _stalled(admin)
