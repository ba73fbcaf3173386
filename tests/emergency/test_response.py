"""Accepting, rejecting, releasing, and how far an emergency may go from where it is."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from emergency.models import Emergency, Entry
from emergency.status import MOVES, Status
from hplus.accounts.models import Hospital, User
from tests.emergency import guide_frames
from tests.phone import Phone
from tests.servers import ThreadServer


async def call(patient: Phone, **given: Any) -> str:
    """Call for help; the emergencyId."""
    answer = await patient.ask("emergencyRequest", data=guide_frames.create_emergency_request(**given))
    return str(answer["data"]["emergencyId"])


async def test_repeated_accept_of_the_same_responder_is_acknowledged(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
    ):
        emergency_id = await call(patient)
        accept = guide_frames.respond(emergency_id, "accept", estimatedArrival=12)
        assert (await crew.ask("emergencyResponse", data=accept))["status"] == "ok"
        assert (await crew.ask("emergencyResponse", data=accept))["status"] == "ok"
        later = guide_frames.respond(emergency_id, "accept", estimatedArrival="20 min")
        assert (await crew.ask("emergencyResponse", data=later))["status"] == "ok"
        await patient.echo()
        heard = [frame["data"]["estimatedArrival"] for frame in patient.heard("emergencyResponse")]
        assert heard == ["12", "20 min"]


async def test_response_of_a_patient_is_refused(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("test_user", "patient") as other,
    ):
        emergency_id = await call(patient)
        for phone in (patient, other):
            for action in ("accept", "reject"):
                refused = await phone.ask(
                    "emergencyResponse", data=guide_frames.respond(emergency_id, action)
                )
                assert refused["code"] == "FORBIDDEN"
    assert (await Emergency.objects.aget()).status == Status.PENDING


async def test_requester_is_told_when_all_have_rejected(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        emergency_id = await call(patient)
        no = guide_frames.respond(emergency_id, "reject", rejectionReason="in theatre")
        await doctor.ask("emergencyResponse", data=no)
        heard = (await crew.expect("emergencyResponse"))["data"]
        assert (heard["action"], heard["status"], heard["rejectionReason"]) == (
            "reject",
            "pending",
            "in theatre",
        )
        assert (heard["assignedTo"], heard["responderId"]) == (None, "doctor_123")
        await patient.echo()
        assert not patient.heard("emergencyResponse")
        await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "reject"))
        assert (await patient.expect("emergencyResponse", action="reject"))["data"]["responderId"] == ""
        await doctor.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
        assert (await patient.expect("emergencyResponse", action="accept"))["data"]["status"] == "accepted"


async def test_release_alerts_the_others_again(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        emergency_id = await call(patient)
        await nurse.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "reject"))
        await crew.ask(
            "emergencyResponse", data=guide_frames.respond(emergency_id, "accept", estimatedArrival="9 min")
        )
        await crew.ask(
            "emergencyStatusUpdate",
            data=guide_frames.update_status(emergency_id, "in_progress", phase="enRoute"),
        )
        broken = guide_frames.respond(emergency_id, "reject", rejectionReason="the engine died")
        await crew.ask("emergencyResponse", data=broken)
        waiting = (
            await patient.expect("emergencyStatusUpdate", previousStatus="in_progress", status="pending")
        )["data"]
        assert waiting["notes"] == "the engine died"
        emergency = guide_frames.emergency_request(waiting["emergency"])
        assert (emergency["assignedTo"], emergency["phase"], emergency["estimatedArrival"]) == (
            None,
            None,
            None,
        )
        assert sorted(emergency["times"]) == ["eTimes.01", "eTimes.03"]
        for phone in (doctor, nurse):
            await phone.echo()
            assert [guide_frames.alert(alert)["status"] for alert in phone.heard("emergencyAlert")] == [
                "pending"
            ] * 2
        await crew.echo()
        assert len(crew.heard("emergencyAlert")) == 1
        assert (await nurse.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept")))[
            "type"
        ] == "ack"


async def test_rejection_after_accept_is_not_published(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        emergency_id = await call(patient)
        await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
        assert (await doctor.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "reject")))[
            "type"
        ] == "ack"
        await crew.echo()
        assert [frame["data"]["action"] for frame in crew.heard("emergencyResponse")] == ["accept"]


async def test_status_transitions_follow_the_table(server: ThreadServer, users: dict[str, User]) -> None:
    """From each to each, asked by an admin of the hospital, who may ask for all of it."""
    async with server.phone("admin_001", "admin", "hospital_001") as admin:
        for before, after in itertools.product(Status.values, Status.values):
            row = await _in_state(users, before)
            reason = {"notes": "false alarm"} if after == Status.CANCELLED else {}
            change = guide_frames.update_status(row.pk, after, **reason)
            answer = await admin.ask("emergencyStatusUpdate", data=change)
            await row.arefresh_from_db()
            if after in MOVES[before] and (before, after) != ("accepted", "accepted"):
                assert (answer["type"], row.status, row.version) == ("ack", after, 2)
            else:
                assert (answer.get("code"), row.status, row.version) == ("INVALID_TRANSITION", before, 1)


async def test_repeated_status_is_refused_without_notes_and_accepted_with_them(
    server: ThreadServer, users: dict[str, User]
) -> None:
    row = await _in_state(users, "accepted")
    async with server.phone("doctor_456", "doctor", "hospital_001") as doctor:
        again = await doctor.ask("emergencyStatusUpdate", data=guide_frames.update_status(row.pk, "accepted"))
        assert again["code"] == "INVALID_TRANSITION"
        request = guide_frames.update_status(row.pk, "accepted", notes="setting off")
        assert (await doctor.ask("emergencyStatusUpdate", data=request))["type"] == "ack"
        told = await doctor.expect("emergencyStatusUpdate")
        assert (told["data"]["status"], told["data"]["notes"]) == ("accepted", "setting off")


async def _in_state(users: dict[str, User], status: str) -> Emergency:
    now, is_taken = timezone.now(), status not in (Status.PENDING, Status.CANCELLED)
    return await Emergency.objects.acreate(
        hospital_id="hospital_001",
        patient_id="patient_123",
        lat=1.5,
        lng=1.5,
        condition="Burn",
        priority="low",
        requested_by=users["patient_123"],
        requested_by_role="patient",
        requested_at=now,
        status=status,
        assigned_to=users["doctor_456"] if is_taken else None,
        assigned_role="doctor" if is_taken else None,
        completed_at=now if status == Status.COMPLETED else None,
        cancelled_at=now if status == Status.CANCELLED else None,
    )


async def test_status_update_permission_by_role(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        emergency_id = await call(patient)
        update = guide_frames.update_status
        for phone in (crew, nurse):
            refused = await phone.ask("emergencyStatusUpdate", data=update(emergency_id, "completed"))
            assert refused["code"] == "INVALID_TRANSITION"
        await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
        for phone in (patient, nurse):
            refused = await phone.ask("emergencyStatusUpdate", data=update(emergency_id, "in_progress"))
            assert refused["code"] == "FORBIDDEN"
        await crew.ask("emergencyStatusUpdate", emergencyId=emergency_id, phase="enRoute")
        assert (await patient.expect("emergencyStatusUpdate", phase="enRoute"))["data"][
            "status"
        ] == "in_progress"
        refused = await patient.ask("emergencyStatusUpdate", data=update(emergency_id, "cancelled"))
        assert refused["code"] == "INVALID_TRANSITION", "too late for the requester"
        refused = await nurse.ask("emergencyStatusUpdate", data=update(emergency_id, "cancelled"))
        assert refused["code"] == "FORBIDDEN", "neither the assignee nor an admin"
        assert (await crew.ask("emergencyStatusUpdate", data=update(emergency_id, "cancelled")))[
            "type"
        ] == "ack"
        again = await crew.ask("emergencyStatusUpdate", data=update(emergency_id, "cancelled"))
        assert again["code"] == "INVALID_TRANSITION"
        closed = await nurse.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
        assert closed["code"] == "INVALID_TRANSITION"

        second = await call(patient)
        assert (await patient.ask("emergencyStatusUpdate", data=update(second, "cancelled")))["type"] == "ack"
        assert (await nurse.expect("emergencyStatusUpdate", emergencyId=second))["data"][
            "updatedByRole"
        ] == "patient"
        refused = await patient.ask("emergencyStatusUpdate", data={"emergencyId": second})
        assert (refused["code"], refused["details"]["field"]) == ("VALIDATION_ERROR", "status")


async def test_admin_reassigns_a_responder(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("technician_001", "technician", "hospital_001") as technician,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        emergency_id = await call(patient)
        await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
        request = {"emergencyId": emergency_id, "assigneeId": "technician_001", "reason": "closer"}
        assert (await crew.ask("emergencyReassign", **request))["code"] == "FORBIDDEN"
        foreign = await admin.ask("emergencyReassign", **{**request, "assigneeId": "paramedic_002"})
        assert foreign["code"] == "USER_NOT_FOUND"
        assert (await admin.ask("emergencyReassign", **request))["type"] == "ack"
        for phone in (patient, crew, technician, admin):
            heard = (await phone.expect("emergencyStatusUpdate", notes="closer"))["data"]["emergency"]
            assert (heard["assignedTo"], heard["assignedRole"]) == ("technician_001", "technician")
        assert guide_frames.alert(await technician.expect("emergencyAlert"))["emergencyId"] == emergency_id
        phase = {"emergencyId": emergency_id, "status": "in_progress", "phase": "onScene"}
        assert (await crew.ask("emergencyStatusUpdate", **phase))["code"] == "FORBIDDEN"
        assert (await technician.ask("emergencyStatusUpdate", **phase))["type"] == "ack"


async def test_transfer_moves_the_emergency_to_the_other_hospital(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("doctor_002", "doctor", "hospital_002") as there,
    ):
        emergency_id = await call(patient)
        request = {"emergencyId": emergency_id, "toHospitalId": "hospital_002", "reason": "burns unit"}
        assert (await patient.ask("emergencyTransfer", **request))["code"] == "FORBIDDEN"
        assert (await there.ask("emergencyTransfer", **request))["code"] == "EMERGENCY_NOT_FOUND"
        await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
        assert (await nurse.ask("emergencyTransfer", **request))["code"] == "FORBIDDEN", "somebody has it"
        unknown = await crew.ask("emergencyTransfer", **{**request, "toHospitalId": "nowhere"})
        assert unknown["code"] == "HOSPITAL_NOT_FOUND"
        assert (await crew.ask("emergencyTransfer", **request))["type"] == "ack"
        for phone in (crew, patient):
            heard = (await phone.expect("emergencyStatusUpdate", notes="burns unit"))["data"]
            assert (heard["status"], heard["emergency"]["hospitalId"]) == ("pending", "hospital_002")
        assert guide_frames.alert(await there.expect("emergencyAlert"))["hospitalId"] == "hospital_002"
        gone = await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
        assert gone["code"] == "EMERGENCY_NOT_FOUND"
        assert (await there.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept")))[
            "type"
        ] == "ack"
        assert (await patient.expect("emergencyResponse", responderId="doctor_002"))["data"][
            "status"
        ] == "accepted"

        untaken = {**request, "emergencyId": await call(patient)}
        assert (await nurse.ask("emergencyTransfer", **untaken))["type"] == "ack", "while nobody has it"
        guide_frames.alert(await there.expect("emergencyAlert", emergencyId=untaken["emergencyId"]))


async def test_call_for_help_to_a_diverting_hospital_is_told(server: ThreadServer, settings: Any) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("nurse_002", "nurse", "hospital_002") as elsewhere,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        await patient.ask("joinHospital", hospitalId="hospital_001")
        request = {"onDiversion": True, "reason": "no beds"}
        assert (await nurse.ask("hospitalStatus", **request))["code"] == "FORBIDDEN"
        assert (await admin.ask("hospitalStatus", **request))["type"] == "ack"
        for phone in (patient, nurse):
            heard = await phone.expect("hospitalStatus")
            assert (heard["hospitalId"], heard["onDiversion"], heard["reason"]) == (
                "hospital_001",
                True,
                "no beds",
            )
        assert await call(patient), "a call for help is stored all the same"
        soon = (timezone.now() + timedelta(hours=1)).isoformat()
        await admin.ask("hospitalStatus", onDiversion=True, until=soon)
        await nurse.expect("hospitalStatus", until=soon.replace("+00:00", "Z"))
        await Hospital.objects.filter(pk="hospital_001").aupdate(
            diversion_until=timezone.now()
        )  # an hour later
        await nurse.expect("hospitalStatus", onDiversion=False)
        await elsewhere.ask("joinHospital", hospitalId="hospital_002")
        assert not elsewhere.heard("hospitalStatus")


@pytest.mark.usefixtures("transactional_db")
def test_database_constraints_hold_the_rules(users: dict[str, User]) -> None:
    row = Emergency(
        hospital_id="hospital_001", patient_id="p", lat=1, lng=1, condition="x", priority="low",
        requested_by=users["patient_123"], requested_by_role="patient", requested_at=timezone.now(),
    )  # fmt: skip
    row.save()
    impossible: list[dict[str, Any]] = [
        {"status": "accepted"},
        {"assigned_to": users["nurse_001"]},
        {"status": "accepted", "assigned_to": users["nurse_001"], "phase": "onScene"},
        {"status": "completed", "assigned_to": users["nurse_001"]},
        {"status": "cancelled"},
        {"status": "in_progress", "assigned_to": users["nurse_001"], "escalate_at": timezone.now()},
    ]
    for change in impossible:
        with pytest.raises(IntegrityError), transaction.atomic():
            Emergency.objects.filter(pk=row.pk).update(**change)
    entry = Entry.objects.create(emergency=row, kind="status", at=timezone.now())
    with pytest.raises(Exception, match="can't be changed"):
        entry.save()
    with pytest.raises(Exception, match="can't be deleted"):
        entry.delete()


async def test_staff_moved_to_another_hospital_get_no_more_events(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as patient:
        async with server.phone("nurse_001", "nurse", "hospital_001") as nurse:
            emergency_id = await call(patient)
            guide_frames.alert(await nurse.expect("emergencyAlert"))
        await User.objects.filter(pk="nurse_001").aupdate(hospital_id="hospital_002")
        async with (
            server.phone("nurse_001", "nurse", "hospital_002") as nurse,
            server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        ):
            await doctor.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
            await patient.expect("emergencyResponse")
            await nurse.ask("joinHospital", hospitalId="hospital_002")
            heard = {frame["type"] for frame in nurse.history}
            assert heard == {"connection_established", "ack", "hospitalJoined"}
