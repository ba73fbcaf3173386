"""Leaving: who drops out, who is added, and when a call with many is over."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import LazySettings
from django.utils import timezone

from calls.models import Participant
from hplus.accounts.models import User
from tests.calls.test_ringing import ring
from tests.phone import Phone
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS, until


async def becomes(holds: Callable[[Participant], bool], **which: object) -> None:
    async def is_so() -> bool:
        return holds(await Participant.objects.aget(**which))

    await until(is_so)


def statuses(frame: dict[str, dict[str, list[dict[str, str]]]]) -> dict[str, str]:
    return {one["userId"]: one["status"] for one in frame["data"]["participants"]}


# Dropped


async def test_participant_without_socket_has_left_after_the_grace(
    server: ThreadServer, settings: LazySettings
) -> None:
    settings.CALL_DROPPED_SECONDS = 1
    async with server.phone("doctor_123", "doctor", "hospital_001") as doctor:
        patient = server.phone("patient_123", "patient")
        async with patient:
            call_id = await ring(patient, "doctor_123")
            await doctor.ask("callAccept", callId=call_id)
            await patient.vanish()
        ended = await doctor.expect("callEnd")
        assert (ended["userId"], ended["reason"]) == ("patient_123", "dropped")
        assert (ended["data"]["status"], ended["data"]["endReason"]) == ("ended", "dropped")
        async with server.phone("patient_123", "patient") as back:
            assert back.established["data"]["activeCall"] is None


async def test_participant_who_reconnects_within_the_grace_stays(
    server: ThreadServer, settings: LazySettings
) -> None:
    settings.CALL_DROPPED_SECONDS = 10 * PATIENCE_SECONDS
    async with server.phone("doctor_123", "doctor", "hospital_001") as doctor:
        async with server.phone("patient_123", "patient") as patient:
            call_id = await ring(patient, "doctor_123")
            await doctor.ask("callAccept", callId=call_id)
        await becomes(lambda one: one.dropped_due_at is not None, user="patient_123")
        async with server.phone("patient_123", "patient") as back:
            assert back.established["data"]["activeCall"]["callId"] == call_id
            await becomes(lambda one: one.dropped_due_at is None, user="patient_123")
            await doctor.send(
                "callSignal", callId=call_id, targetUserId="patient_123", signalType="offer", sdp="again"
            )
            assert (await back.expect("callSignal"))["sdp"] == "again"
            assert not doctor.heard("callEnd")


async def test_caller_lost_while_ringing_fails_the_call(server: ThreadServer, settings: LazySettings) -> None:
    settings.CALL_DROPPED_SECONDS = 0
    async with server.phone("doctor_123", "doctor", "hospital_001") as doctor:
        async with server.phone("patient_123", "patient") as patient:
            await ring(patient, "doctor_123")
        ended = await doctor.expect("callEnd")
        assert (ended["data"]["status"], ended["data"]["endReason"]) == ("failed", "dropped")
        await doctor.expect("notification", category="missedCall")


async def test_participant_lost_during_a_restart_is_dropped(
    users: dict[str, User], settings: LazySettings
) -> None:
    settings.CALL_DROPPED_SECONDS = 10 * PATIENCE_SECONDS
    with ThreadServer() as first:
        async with (
            first.phone("patient_123", "patient") as patient,
            first.phone("doctor_123", "doctor", "hospital_001") as doctor,
        ):
            call_id = await ring(patient, "doctor_123")
            await doctor.ask("callAccept", callId=call_id)
    with ThreadServer() as second:
        async with second.phone("doctor_123", "doctor", "hospital_001") as doctor:
            assert doctor.established["data"]["activeCall"]["callId"] == call_id
            await becomes(lambda one: one.dropped_due_at is None, user="doctor_123")
            await Participant.objects.filter(user="patient_123").aupdate(dropped_due_at=timezone.now())
            ended = await doctor.expect("callEnd")
            assert (ended["userId"], ended["reason"]) == ("patient_123", "dropped")


# Many


async def test_group_call_ends_when_at_most_one_is_left(server: ThreadServer) -> None:
    async with (
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("patient_123", "patient") as patient,
    ):
        await doctor.send(
            "callInitiate", participantIds=["nurse_001", "patient_123", "doctor_456"], callType="video"
        )
        call_id = (await doctor.expect("callInitiated"))["callId"]
        for phone in (nurse, patient):
            assert (await phone.expect("callInitiate"))["callId"] == call_id
            await phone.ask("callAccept", callId=call_id)
        await nurse.expect("callAccept", userId="patient_123")
        assert [frame["userId"] for frame in doctor.heard("callAccept")] == ["nurse_001", "patient_123"]
        assert [frame["userId"] for frame in patient.heard("callAccept")] == ["nurse_001"]

        await nurse.ask("callEnd", callId=call_id)
        left = await patient.expect("callEnd")
        assert (left["userId"], left["data"]["status"]) == ("nurse_001", "active")
        assert statuses(left) == {
            "doctor_123": "joined",
            "nurse_001": "left",
            "patient_123": "joined",
            "doctor_456": "ringing",
        }

        # doctor_456 still rings, so the caller may wait for that answer.
        await patient.ask("callEnd", callId=call_id)
        assert (await doctor.expect("callEnd", userId="patient_123"))["data"]["status"] == "active"
        async with server.phone("doctor_456", "doctor", "hospital_001") as late:
            assert (await late.expect("callInitiate"))["callerId"] == "doctor_123"
            await late.ask("callReject", callId=call_id)
        over = await doctor.expect("callReject")
        assert (over["userId"], over["data"]["status"]) == ("doctor_456", "ended")
        assert statuses(over)["doctor_123"] == "left"


async def test_group_call_rings_only_free_callees(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("doctor_456", "doctor", "hospital_001") as caller,
    ):
        await a_call(patient, doctor)
        await caller.send("callInitiate", participantIds=["doctor_123", "nurse_001"], callType="audio")
        assert statuses(await nurse.expect("callInitiate", callerId="doctor_456")) == {
            "doctor_456": "joined",
            "doctor_123": "busy",
            "nurse_001": "ringing",
        }
        await doctor.expect("notification", category="missedCall")
        assert len(doctor.heard("callInitiate")) == 1


async def a_call(patient: Phone, doctor: Phone) -> str:
    call_id = await ring(patient, "doctor_123")
    await doctor.ask("callAccept", callId=call_id)
    return call_id


async def test_staff_in_a_call_add_a_participant(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        call_id = await a_call(patient, doctor)
        added = await doctor.ask("callAddParticipant", callId=call_id, participantId="nurse_001")
        assert added["type"] == "ack"
        told = await patient.expect("callAddParticipant")
        assert (told["userId"], told["participantId"]) == ("doctor_123", "nurse_001")
        assert statuses(told)["nurse_001"] == "ringing"
        ringing = await nurse.expect("callInitiate")
        assert (ringing["callerId"], ringing["data"]["initiatorId"]) == ("doctor_123", "patient_123")

        # Once is enough; who said no can be asked again.
        await doctor.ask("callAddParticipant", callId=call_id, participantId="nurse_001")
        await nurse.ask("callReject", callId=call_id)
        await patient.expect("callReject", userId="nurse_001")
        await doctor.ask("callAddParticipant", callId=call_id, participantId="nurse_001")
        await nurse.ask("callAccept", callId=call_id)
        assert statuses(await patient.expect("callAccept", userId="nurse_001"))["nurse_001"] == "joined"
        assert len(nurse.heard("callInitiate")) == 2
        assert len(patient.heard("callAddParticipant")) == 2


async def test_adding_a_participant_without_permission_is_refused(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("doctor_456", "doctor", "hospital_001") as stranger,
        server.phone("admin_001", "admin", "hospital_001") as admin,
        server.phone("test_user", "patient") as other_patient,
        server.phone("doctor_002", "doctor", "hospital_002") as elsewhere,
    ):
        call_id = await a_call(patient, doctor)
        async with server.phone("receptionist_001", "receptionist", "hospital_001") as talking:
            await talking.ask("callAccept", callId=await ring(nurse, "receptionist_001"))
        refused = [
            (patient, "paramedic_789", "FORBIDDEN"),
            (stranger, "paramedic_789", "CALL_NOT_FOUND"),
            (elsewhere, "paramedic_002", "CALL_NOT_FOUND"),
            (admin, "paramedic_789", "FORBIDDEN"),
            (doctor, "test_user", "FORBIDDEN"),
            (doctor, "doctor_002", "USER_NOT_FOUND"),
            (doctor, "nobody", "USER_NOT_FOUND"),
            (doctor, "nurse_001", "CALL_BUSY"),
        ]
        for phone, who, code in refused:
            answer = await phone.ask("callAddParticipant", callId=call_id, participantId=who)
            assert (answer["type"], answer.get("code")) == ("error", code), who
        await doctor.ask("callEnd", callId=call_id)
        late = await doctor.ask("callAddParticipant", callId=call_id, participantId="doctor_456")
        assert late["code"] == "CALL_INVALID_STATE"
        for phone in (stranger, other_patient, elsewhere):
            await phone.echo()
            assert not phone.heard("callInitiate")
        await patient.echo()
        assert not patient.heard("callAddParticipant")
