"""Who takes and who cancels a call for help: by policy, with a reason, and the caller may object."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async

from emergency.models import Emergency, HospitalPolicy
from hplus.audit.models import Record
from tests.emergency import guide_frames
from tests.phone import Phone
from tests.servers import ThreadServer


async def call(caller: Phone) -> str:
    request = {**guide_frames.TEST_EMERGENCY, "patientId": caller.user_id}
    return str((await caller.ask("emergencyRequest", data=request))["data"]["emergencyId"])


async def cancel(phone: Phone, emergency_id: str, notes: str | None = "false alarm") -> dict[str, Any]:
    fields = {"emergencyId": emergency_id, "status": "cancelled", "notes": notes}
    return await phone.ask("emergencyStatusUpdate", data=fields)


async def object_to(phone: Phone, emergency_id: str) -> dict[str, Any]:
    return await phone.ask("emergencyAmend", emergencyId=emergency_id, changes={}, reason="I still need help")


@sync_to_async
def audited(emergency_id: str) -> list[tuple[str, str]]:
    """Who did what, in order."""
    rows = Record.objects.filter(object_id=emergency_id, verb="change").order_by("number")
    return [(row.actor_id, row.details["what"]) for row in rows]


async def test_roles_of_the_policy_and_who_was_alerted_may_accept_and_nobody_else(
    server: ThreadServer,
) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("technician_001", "technician", "hospital_001") as technician,
        server.phone("receptionist_001", "receptionist", "hospital_001") as receptionist,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        await HospitalPolicy.objects.acreate(
            hospital_id="hospital_001", alert_roles=["receptionist"], accept_roles=["nurse"]
        )
        emergency_id = await call(patient)
        for action in ("accept", "reject"):
            response = guide_frames.respond(emergency_id, action)
            assert (await technician.ask("emergencyResponse", data=response))["code"] == "FORBIDDEN"
        await receptionist.expect("emergencyAlert")
        accept = guide_frames.respond(emergency_id, "accept")
        assert (await receptionist.ask("emergencyResponse", data=accept))["type"] == "ack"
        taken = await nurse.ask("emergencyResponse", data=accept)
        assert taken["code"] == "EMERGENCY_ALREADY_ASSIGNED", "the role alone is enough to be asked"


async def test_others_cancel_only_as_assignee_or_admin_and_with_a_reason(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("receptionist_001", "receptionist", "hospital_001") as receptionist,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        emergency_id = await call(patient)
        for phone in (receptionist, crew):
            assert (await cancel(phone, emergency_id))["code"] == "FORBIDDEN"
        without = await cancel(admin, emergency_id, " ")
        assert (without["code"], without["details"]["field"]) == ("VALIDATION_ERROR", "notes")
        assert (await Emergency.objects.aget()).status == "pending"
        assert (await cancel(admin, emergency_id))["type"] == "ack"
        own = await call(patient)
        assert (await cancel(patient, own, None))["type"] == "ack", "the own call needs no reason"
        third = await call(patient)
        await crew.ask("emergencyResponse", data=guide_frames.respond(third, "accept"))
        taken = await cancel(crew, third, None)
        assert taken["data"]["warnings"] == ["notes"], "the guide's app asks for no reason"
        assert await audited(emergency_id) == [("admin_001", "cancelled")]
        assert await audited(own) == [("patient_123", "cancelled")]


async def test_caller_hears_of_a_cancellation_by_others_and_reopens_it_within_a_minute(
    server: ThreadServer,
) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("test_user", "patient") as stranger,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        emergency_id = await call(patient)
        await nurse.expect("emergencyAlert", emergencyId=emergency_id)
        nothing_to = await object_to(patient, emergency_id)
        assert (nothing_to["code"], nothing_to["details"]["field"]) == ("VALIDATION_ERROR", "changes")
        await cancel(admin, emergency_id)
        notice = await patient.expect("notification", category="emergencyCancelled")
        assert notice["data"]["emergencyId"] == emergency_id
        assert (await object_to(nurse, emergency_id))["code"] == "FORBIDDEN"
        assert (await object_to(stranger, emergency_id))["code"] == "EMERGENCY_NOT_FOUND"
        assert (await object_to(patient, emergency_id))["type"] == "ack"
        reopened = await patient.expect("emergencyStatusUpdate", status="pending", previousStatus="cancelled")
        assert reopened["data"]["emergency"]["assignedTo"] is None
        await nurse.expect("emergencyAlert", emergencyId=emergency_id)
        row = await Emergency.objects.aget()
        assert (row.status, row.cancelled_at, row.escalation_level) == ("pending", None, 0)
        assert row.escalate_at is not None
        assert (await object_to(patient, emergency_id))["code"] == "VALIDATION_ERROR", "it is open again"
        await cancel(admin, emergency_id)
        too_late = row.requested_at - timedelta(seconds=60)
        await Emergency.objects.aupdate(cancelled_at=too_late)
        assert (await object_to(patient, emergency_id))["code"] == "INVALID_TRANSITION"
        own = await call(patient)
        await cancel(patient, own, None)
        assert (await object_to(patient, own))["code"] == "INVALID_TRANSITION", "nobody else cancelled it"
        assert await audited(emergency_id) == [
            ("admin_001", "cancelled"), ("patient_123", "reopened"), ("admin_001", "cancelled"),
        ]  # fmt: skip


async def test_several_cancellations_by_one_person_are_reported_to_the_admins(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("admin_001", "admin", "hospital_001") as admin,
        server.phone("admin_002", "admin", "hospital_002") as elsewhere,
    ):
        for count in (1, 2, 3):
            emergency_id = await call(patient)
            await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
            await cancel(crew, emergency_id)
            await admin.echo()
            several = [
                each for each in admin.heard("notification") if each["category"] == "severalCancellations"
            ]
            assert len(several) == (count == 3)
        assert several[0]["data"] == {"userId": "paramedic_456", "count": 3, "emergencyId": emergency_id}
        await elsewhere.echo()
        assert elsewhere.heard("notification") == []
