"""A line that only rings is not busy, and nobody can keep one from others by ringing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import F

from calls import actions, messages
from calls.models import Call, Participant
from calls.setup import initiate
from hplus.accounts.models import User
from hplus.notifications.models import Notification
from tests.calls.test_ringing import ring
from tests.servers import ThreadServer

Users = dict[str, User]
PLACE = {"location": {"lat": 52.52, "lng": 13.4}, "condition": "collapsed", "priority": "high"}


async def test_more_urgent_call_rings_on_a_line_that_rings(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("test_user", "patient") as other,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("doctor_456", "doctor", "hospital_001") as colleague,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        first = await ring(patient, "doctor_123")
        second = await ring(nurse, "doctor_123")
        third = await ring(colleague, "doctor_123")
        for call_id in (first, second, third):
            await doctor.expect("callInitiate", callId=call_id)
        refused = await other.ask("callInitiate", receiverId="doctor_123", callType="audio")
        assert refused["code"] == "CALL_BUSY"  # a colleague rings
        async with server.phone("doctor_123", "doctor", "hospital_001") as again:
            assert again.established["data"]["activeCall"]["callId"] in (second, third)
            for call_id in (first, second, third):
                await again.expect("callInitiate", callId=call_id)

        await doctor.ask("callAccept", callId=second)
        await nurse.expect("callAccept")
        for phone in (patient, colleague):
            declined = await phone.expect("callReject")
            assert (declined["userId"], declined["reason"]) == ("doctor_123", "busy")
        late = await colleague.ask("callInitiate", receiverId="doctor_123", callType="audio")
        assert late["code"] == "CALL_BUSY"  # now the doctor talks


async def test_call_about_an_open_emergency_is_the_most_urgent(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("test_user", "patient") as other,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        await ring(nurse, "doctor_123")
        asked: dict[str, Any] = {"receiverId": "doctor_123", "callType": "audio"}
        request = {"patientId": "patient_123", "hospitalId": "hospital_001", **PLACE}
        emergency = await patient.ask("emergencyRequest", **request)
        emergency_id = emergency["data"]["emergencyId"]
        for made_up in ("none", emergency_id):
            refused = await other.ask("callInitiate", **asked, emergencyId=made_up)
            assert refused["code"] == "CALL_BUSY", made_up  # it is not the caller's own
        assert (await patient.ask("callInitiate", **asked, emergencyId=emergency_id))["type"] == "ack"
        await doctor.expect("callInitiate", callerId="patient_123")


async def test_several_at_once_are_for_staff(server: ThreadServer) -> None:
    several = {"participantIds": ["doctor_123", "nurse_001"], "callType": "audio"}
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_456", "doctor", "hospital_001") as doctor,
    ):
        assert (await patient.ask("callInitiate", **several, hospitalId="hospital_001"))[
            "code"
        ] == "FORBIDDEN"
        assert (await doctor.ask("callInitiate", **several))["type"] == "ack"


async def test_unanswered_calls_are_slowed_and_come_in_one_notice(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        for _ in range(3):
            await patient.ask("callEnd", callId=await ring(patient, "doctor_123"))
        refused = await patient.ask("callInitiate", receiverId="doctor_123", callType="audio")
        assert refused["code"] == "RATE_LIMITED"
        assert 0 < refused["retryAfter"] <= 600
        await patient.ask("callEnd", callId=await ring(patient, "nurse_001"))  # others can be called
        await ring(nurse, "doctor_123")
        await doctor.expect("callInitiate", callerId="nurse_001")
        notices = Notification.objects.filter(recipient="doctor_123", category="missedCall")
        [notice] = [one async for one in notices]
        assert notice.data["count"] == 3
        assert notice.body.endswith("called you 3 times.")

        await Call.objects.aupdate(started_at=F("started_at") - timedelta(minutes=11))
        assert (await patient.ask("callInitiate", receiverId="doctor_123", callType="audio"))["code"] != (
            "RATE_LIMITED"
        )


def test_two_who_take_calls_of_each_other_wait_for_nobody(users: Users) -> None:
    """Each takes one of the two calls that ring for both; the locks are taken in one order."""
    calls = []
    for caller in ("nurse_001", "doctor_456"):
        request = messages.InitiateCall(participant_ids=["doctor_123", "admin_001"], call_type="audio")
        calls.append((initiate(users[caller], request, "a device").ack_data or {})["callId"])

    def take(user_id: str, call_id: str) -> None:
        try:
            actions.accept(users[user_id], messages.AcceptCall(call_id=call_id), f"device of {user_id}")
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        taken = [
            pool.submit(take, who, which)
            for who, which in zip(("doctor_123", "admin_001"), calls, strict=True)
        ]
        for one in taken:
            one.result()
    for who, which in zip(("doctor_123", "admin_001"), calls, strict=True):
        [talking] = Participant.objects.present().filter(user=who)
        assert (talking.call_id, talking.status) == (which, "joined")
