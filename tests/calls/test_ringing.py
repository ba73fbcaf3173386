"""How ringing ends: taken, rejected, taken back, or missed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from django.conf import LazySettings
from django.db import connection
from django.utils import timezone

from calls import messages, teardown
from calls.models import Call, Participant
from calls.setup import initiate
from hplus.accounts.models import Session, User
from hplus.notifications.models import Notification
from hplus.push import actions as push
from hplus.push.models import PushOutbox
from hplus.realtime.models import Connection, ServerProcess
from tests.phone import Phone
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS


async def ring(caller: Phone, receiver_id: str, **fields: object) -> str:
    await caller.send("callInitiate", receiverId=receiver_id, callType="audio", **fields)
    return str((await caller.expect("callInitiated"))["callId"])


async def test_rejected_call_ends_on_all_devices(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as phone,
        server.phone("doctor_123", "doctor", "hospital_001") as tablet,
    ):
        call_id = await ring(patient, "doctor_123")
        await phone.ask("callReject", callId=call_id, reason="in surgery")

        rejected = await patient.expect("callReject")
        assert (rejected["userId"], rejected["reason"]) == ("doctor_123", "in surgery")
        assert (rejected["data"]["status"], rejected["data"]["endReason"]) == ("rejected", "in surgery")
        assert (await tablet.expect("callAnsweredElsewhere"))["outcome"] == "rejected"
        await phone.echo()
        assert not phone.heard("callAnsweredElsewhere")

        # Who rejected has missed nothing, and nothing is left to take or to reject.
        assert not tablet.heard("notification")
        assert (await tablet.ask("callAccept", callId=call_id))["code"] == "CALL_INVALID_STATE"
        assert (await phone.ask("callReject", callId=call_id))["type"] == "ack"
        assert (await patient.ask("callEnd", callId=call_id))["type"] == "ack"
        assert len(patient.heard("callReject")) == 1


async def test_callee_hangup_while_ringing_is_a_reject(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001", path="/ws/calls/") as doctor,
    ):
        call_id = await ring(patient, "doctor_123")
        await doctor.ask("callEnd", callId=call_id)
        assert (await patient.expect("callReject"))["data"]["status"] == "rejected"


async def test_only_callees_can_accept_or_reject(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        call_id = await ring(patient, "doctor_123")
        for type_ in ("callAccept", "callReject"):
            refused = await patient.ask(type_, callId=call_id)
            assert (refused["code"], refused["requestType"]) == ("CALL_INVALID_STATE", type_)
        await doctor.ask("callAccept", callId=call_id)
        refused = await doctor.ask("callReject", callId=call_id)
        assert refused["code"] == "CALL_INVALID_STATE"

        # Two who hang up at once are both right; after that nobody can join.
        assert (await patient.ask("callEnd", callId=call_id))["type"] == "ack"
        assert (await doctor.ask("callEnd", callId=call_id))["type"] == "ack"
        assert (await doctor.ask("callAccept", callId=call_id))["code"] == "CALL_INVALID_STATE"
        assert len(doctor.heard("callEnd")) == 1


async def test_accept_twice_on_one_device_counts_once(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        call_id = await ring(patient, "doctor_123")
        assert (await doctor.ask("callAccept", callId=call_id))["type"] == "ack"
        assert (await doctor.ask("callAccept", callId=call_id))["type"] == "ack"
        await patient.echo()
        assert len(patient.heard("callAccept")) == 1


async def test_second_device_takes_over_when_the_accepting_one_is_gone(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        call_id = await ring(patient, "doctor_123")
        await doctor.ask("callAccept", callId=call_id, answer="of the first device")
        joined = await patient.expect("callAccept", answer="of the first device")
        await doctor.hang_up()
        async with server.phone("doctor_123", "doctor", "hospital_001") as again:
            assert again.established["data"]["activeCall"]["status"] == "active"
            await again.ask("callAccept", callId=call_id, answer="of the next device")
            followed = await patient.expect("callAccept", answer="of the next device")
            assert followed["data"] == joined["data"]


async def test_unanswered_call_is_missed_after_the_ring_time(
    server: ThreadServer, settings: LazySettings
) -> None:
    settings.HPLUS_RING_SECONDS = 1
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        call_id = await ring(patient, "doctor_123")
        for device in (patient, doctor):
            ended = await device.expect("callEnd", callId=call_id)
            assert (ended["userId"], ended["reason"]) == ("doctor_123", "missed")
            assert (ended["data"]["status"], ended["data"]["durationSeconds"]) == ("missed", None)
        missed = await doctor.expect("notification", category="missedCall")
        assert missed["title"] == "Missed call"
        assert missed["data"] == {
            "callId": call_id,
            "callType": "audio",
            "callerId": "patient_123",
            "callerName": "Pat Meadow",
            "callerRole": "patient",
            "hospitalId": "hospital_001",
            "emergencyId": None,
            "startedAt": ended["data"]["startedAt"],
            "count": 1,
        }
        await patient.echo()
        assert not patient.heard("notification")


async def test_call_is_missed_on_time_after_a_restart(users: dict[str, User], settings: LazySettings) -> None:
    settings.HPLUS_RING_SECONDS = 10 * PATIENCE_SECONDS
    with ThreadServer() as first:
        async with first.phone("patient_123", "patient") as patient:
            call_id = await ring(patient, "doctor_123")
    await Participant.objects.aupdate(ring_due_at=timezone.now())  # in the time without a server
    with ThreadServer() as second:
        async with second.phone("doctor_123", "doctor", "hospital_001") as doctor:
            missed = await doctor.expect("notification", category="missedCall")
            assert missed["data"]["callId"] == call_id


def test_call_is_missed_once_with_several_servers(users: dict[str, User], settings: LazySettings) -> None:
    settings.HPLUS_RING_SECONDS = 0
    request = messages.InitiateCall(participant_ids=["nurse_001", "doctor_456"], call_type="audio")
    initiate(users["doctor_123"], request, "a device")

    def a_server(_number: int) -> int:
        try:
            return teardown.mark_missed_calls()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        missed = sum(pool.map(a_server, range(4)))
    assert missed + teardown.mark_missed_calls() == 2
    assert Call.objects.get().status == "missed"
    assert sorted(Notification.objects.values_list("recipient", flat=True)) == ["doctor_456", "nurse_001"]


def test_ringing_wakes_an_offline_phone_and_not_a_connected_one(users: dict[str, User]) -> None:
    for user_id in ("doctor_456", "nurse_001"):
        push.register(Session.objects.create(user=users[user_id]), f"token of {user_id}")
    Connection.objects.create(
        server=ServerProcess.objects.create(host="ward", pid=1), user=users["nurse_001"], role="nurse"
    )
    request = messages.InitiateCall(
        participant_ids=["nurse_001", "doctor_456"], call_type="audio", offer="v=0"
    )
    made = initiate(users["doctor_123"], request, "a device").ack_data or {}
    [wakeup] = PushOutbox.objects.select_related("device")
    assert wakeup.device.user_id == "doctor_456"
    content = wakeup.content()
    assert content == {"category": "incomingCall", "id": made["callId"], "eventId": content["eventId"]}
