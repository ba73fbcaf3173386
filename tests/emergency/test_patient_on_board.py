"""A crew with the patient on board: nothing but another crew or the end takes the patient from it."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from emergency.models import Emergency
from hplus.accounts.models import User
from hplus.management.commands.seed_demo import PASSWORD
from hplus.realtime.execution.db_threads import in_db_thread
from tests.emergency import guide_frames
from tests.phone import Phone
from tests.servers import ThreadServer

NEVER = 3600


@pytest.fixture
def limits(settings: Any) -> dict[str, int]:
    """The limits of this test: what it doesn't set never passes."""
    settings.HPLUS_STALL_SECONDS = {"acknowledge": NEVER, "turnout": NEVER, "unreachable": NEVER}
    return settings.HPLUS_STALL_SECONDS


async def _reached(patient: Phone, crew: Phone, phase: str) -> str:
    """Let the crew accept a call and reach this phase; return the emergencyId."""
    asked = await patient.ask("emergencyRequest", data=guide_frames.create_emergency_request())
    emergency_id = str(asked["data"]["emergencyId"])
    await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
    reached = guide_frames.update_status(emergency_id, "in_progress", phase=phase)
    await crew.ask("emergencyStatusUpdate", data=reached)
    return emergency_id


async def _reassign(admin: Phone, emergency_id: str, assignee_id: str) -> dict[str, Any]:
    return await admin.ask(
        "emergencyReassign", emergencyId=emergency_id, assigneeId=assignee_id, reason="the car broke down"
    )


async def test_next_crew_takes_over_phase_and_times_with_the_patient(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("nurse_001", "nurse", "hospital_001") as relief,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        emergency_id = await _reached(patient, crew, "transporting")
        before = await Emergency.objects.aget()
        assert (await _reassign(admin, emergency_id, "nurse_001"))["type"] == "ack"
        told = await patient.expect("emergencyStatusUpdate", previousStatus="in_progress")
        assert told["data"]["emergency"]["assignedTo"] == "nurse_001"
        row = await Emergency.objects.aget()
        assert (row.status, row.phase, row.assigned_to_id) == ("in_progress", "transporting", "nurse_001")
        assert row.transporting_at == before.transporting_at
        assert row.acknowledged_at is None
        for phone in (relief, admin):
            transfer = {"emergencyId": emergency_id, "toHospitalId": "hospital_002", "reason": "no beds"}
            assert (await phone.ask("emergencyTransfer", **transfer))["code"] == "INVALID_TRANSITION"
        arrived = guide_frames.update_status(emergency_id, "in_progress", phase="atDestination")
        assert (await relief.ask("emergencyStatusUpdate", data=arrived))["type"] == "ack"
        assert (await Emergency.objects.aget()).acknowledged_at is not None


async def test_next_crew_begins_anew_before_the_patient_is_reached(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        emergency_id = await _reached(patient, crew, "onScene")
        assert (await _reassign(admin, emergency_id, "nurse_001"))["type"] == "ack"
        row = await Emergency.objects.aget()
        assert (row.status, row.phase, row.on_scene_at) == ("accepted", None, None)


async def test_next_crew_that_is_silent_with_the_patient_is_asked_and_never_released(
    server: ThreadServer, limits: dict[str, int]
) -> None:
    limits["acknowledge"] = limits["unreachable"] = 1
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        emergency_id = await _reached(patient, crew, "atPatient")
        await _reassign(admin, emergency_id, "nurse_001")
        for _ in range(3):
            await admin.expect("notification", category="emergencyStalled")
        row = await Emergency.objects.aget()
        assert (row.status, row.phase, row.assigned_to_id) == ("in_progress", "atPatient", "nurse_001")


async def test_crew_with_the_patient_cant_give_the_emergency_back(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
    ):
        emergency_id = await _reached(patient, crew, "transporting")
        refused = await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "reject"))
        assert (refused["code"], refused["details"]) == (
            "INVALID_TRANSITION",
            {"status": "in_progress", "phase": "transporting"},
        )
        done = guide_frames.update_status(emergency_id, "completed")
        assert (await crew.ask("emergencyStatusUpdate", data=done))["type"] == "ack"
        assert (await Emergency.objects.aget()).status == "completed"


async def test_crew_gives_the_emergency_back_before_the_patient_is_reached(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
    ):
        emergency_id = await _reached(patient, crew, "enRoute")
        given_back = await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "reject"))
        assert given_back["type"] == "ack"
        assert (await Emergency.objects.aget()).status == "pending"


async def test_cause_that_changes_puts_no_release_off(server: ThreadServer, limits: dict[str, int]) -> None:
    """First the assignment is not acknowledged, then the assignee is also away: who was asked is not anew."""
    limits["acknowledge"], limits["unreachable"] = 1, 2
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        asked = await patient.ask("emergencyRequest", data=guide_frames.create_emergency_request())
        await _reassign(admin, asked["data"]["emergencyId"], "nurse_001")
        first = await admin.expect("notification", category="emergencyStalled")
        assert first["data"]["cause"] == "acknowledge"
        await patient.expect("emergencyStatusUpdate", previousStatus="accepted", status="pending")
        await admin.echo()
        causes = {notice["data"]["cause"] for notice in admin.heard("notification")}
        assert "unreachable" not in causes


async def test_account_of_a_crew_with_the_patient_is_not_moved(
    server: ThreadServer, users: dict[str, User]
) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
    ):
        await _reached(patient, crew, "transporting")
        refused = await in_db_thread(_move_on_the_admin_page)
        assert "The crew is with the patient" in refused
        row = await Emergency.objects.select_related("assigned_to").aget()
        assert row.assigned_to is not None
        assert (row.phase, row.assigned_to_id) == ("transporting", "paramedic_456")
        assert row.assigned_to.hospital_id == "hospital_001"
        await crew.echo()


def _move_on_the_admin_page() -> str:
    """Return the page that answers."""
    root = Client()
    root.post("/admin/login/", {"username": "root", "password": PASSWORD})
    form = {
        "name": "Kit",
        "role": "paramedic",
        "hospital": "hospital_002",
        "department": "",
        "specialization": "",
    }
    response = root.post("/admin/accounts/user/paramedic_456/change/", form)
    assert response.status_code == 200
    return response.content.decode()
