"""Who may call whom, who is busy, and two who call each other at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from django.db import connection

from calls import actions, messages
from calls.models import Call, Participant
from calls.setup import initiate
from hplus import errors
from hplus.accounts.models import User
from tests.calls.test_ringing import ring
from tests.servers import ThreadServer

Users = dict[str, User]


REFUSED = [
    ("patient_123", {"receiverId": "test_user"}, "USER_NOT_FOUND"),
    ("patient_123", {"receiverId": "test_user", "hospitalId": "hospital_001"}, "USER_NOT_FOUND"),
    ("patient_123", {"receiverId": "patient_123"}, "VALIDATION_ERROR"),
    ("patient_123", {"receiverId": "nobody"}, "USER_NOT_FOUND"),
    ("patient_123", {"receiverId": "doctor_123", "hospitalId": "hospital_002"}, "USER_NOT_FOUND"),
    ("patient_123", {"receiverId": "doctor_123", "hospitalId": "nowhere"}, "HOSPITAL_NOT_FOUND"),
    ("patient_123", {"participantIds": ["doctor_123", "nurse_001"]}, "FORBIDDEN"),
    ("doctor_123", {"participantIds": ["nurse_001", "doctor_002"]}, "USER_NOT_FOUND"),
    ("patient_123", {}, "VALIDATION_ERROR"),
    ("patient_123", {"participantIds": []}, "VALIDATION_ERROR"),
    ("patient_123", {"receiverId": "doctor_123", "callType": "smoke"}, "VALIDATION_ERROR"),
    ("doctor_123", {"receiverId": "doctor_002"}, "USER_NOT_FOUND"),
    ("doctor_123", {"receiverId": "doctor_123"}, "VALIDATION_ERROR"),
    ("doctor_123", {"receiverId": "doctor_002", "hospitalId": "hospital_002"}, "HOSPITAL_MISMATCH"),
    ("doctor_123", {"participantIds": ["patient_123", "test_user"]}, "FORBIDDEN"),
]
ALLOWED = [
    ("patient_123", "doctor_002", "hospital_002"),
    ("doctor_123", "patient_123", "hospital_001"),
    ("nurse_001", "doctor_123", "hospital_001"),
]


async def test_call_without_callee_is_refused(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as patient:
        for nobody in ({}, {"receiverId": " "}, {"participantIds": []}):
            refused = await patient.ask("callInitiate", callType="audio", **nobody)
            assert (refused["code"], refused["details"]["field"]) == ("VALIDATION_ERROR", "receiverId")


async def test_call_to_a_callee_without_permission_is_refused(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("doctor_002", "doctor", "hospital_002") as elsewhere,
        server.phone("test_user", "patient") as other,
    ):
        for caller, fields, code in REFUSED:
            phone = patient if caller == "patient_123" else doctor
            refused = await phone.ask("callInitiate", **{"callType": "audio", **fields})
            assert (refused["type"], refused.get("code")) == ("error", code), fields
        for phone in (patient, doctor, elsewhere, other):
            await phone.echo()
            assert not phone.heard("callInitiate")
        assert not await Call.objects.aexists()


def test_call_belongs_to_the_hospital_of_the_pair(users: Users) -> None:
    for caller, callee, hospital_id in ALLOWED:
        request = messages.InitiateCall(receiver_id=callee, call_type="audio")
        made = initiate(users[caller], request, "a device").ack_data or {}
        call = actions.find_call(users[callee], made["callId"])
        assert (call.hospital_id, call.status) == (hospital_id, "ringing")
        actions.end(users[caller], messages.EndCall(call_id=call.pk), "a device")


async def test_busy_callee_is_not_rung_but_notified(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        first = await ring(patient, "doctor_123")
        await doctor.ask("callAccept", callId=first)
        asked = {"receiverId": "doctor_123", "callType": "audio", "clientMessageId": "tap-1"}
        while_talking = await nurse.ask("callInitiate", **asked)
        assert while_talking["code"] == "CALL_BUSY"
        assert (await nurse.ask("callInitiate", **asked))["code"] == "CALL_BUSY"
        missed = await doctor.expect("notification", category="missedCall")
        assert missed["data"]["callerId"] == "nurse_001"
        assert missed["data"]["callId"] == while_talking["details"]["callId"]
        assert len(doctor.heard("callInitiate")) == 1
        busy = await Call.objects.aget(pk=while_talking["details"]["callId"])
        assert (busy.status, busy.ended_at is not None) == ("busy", True)

        # Neither the busy one nor the one who was refused is stuck.
        await doctor.ask("callEnd", callId=first)
        await ring(nurse, "doctor_123")
        assert (await doctor.expect("callInitiate", callerId="nurse_001"))["callType"] == "audio"


async def test_caller_in_a_call_cannot_start_another(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        call_id = await ring(patient, "doctor_123")
        await doctor.ask("callAccept", callId=call_id)
        refused = await patient.ask("callInitiate", receiverId="nurse_001", callType="audio")
        assert (refused["code"], refused["details"]) == ("CALL_INVALID_STATE", {"callId": call_id})
        await nurse.echo()
        assert not nurse.heard("callInitiate")


async def test_calling_while_being_rung_rejects_the_incoming_call(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        await ring(patient, "doctor_123")
        await ring(doctor, "nurse_001")
        rejected = await patient.expect("callReject")
        assert (rejected["reason"], rejected["data"]["status"]) == ("busy", "rejected")
        await nurse.expect("callInitiate", callerId="doctor_123")


async def test_caller_can_call_again_at_once_after_a_crash(server: ThreadServer) -> None:
    async with server.phone("doctor_123", "doctor", "hospital_001") as doctor:
        async with server.phone("patient_123", "patient") as patient:
            first = await ring(patient, "doctor_123")
            await doctor.ask("callAccept", callId=first)
        async with server.phone("patient_123", "patient") as restarted:
            second = await ring(restarted, "doctor_123")
            assert (await doctor.expect("callEnd"))["callId"] == first
            assert (await doctor.expect("callInitiate", callId=second))["data"]["status"] == "ringing"


# The same request twice


async def test_repeated_callInitiate_creates_one_call(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        request = {"receiverId": "doctor_123", "callType": "audio", "clientMessageId": "tap-1"}
        first = await patient.ask("callInitiate", **request, offer="first offer")
        again = await patient.ask("callInitiate", **request, offer="made again")
        assert (first["status"], again["status"]) == ("ok", "duplicate")
        assert first["data"] == again["data"]
        other = await patient.ask("callInitiate", **{**request, "callType": "video"})
        assert other["code"] == "IDEMPOTENCY_CONFLICT"

        # Tapping twice without a clientMessageId is no second call either.
        tapped = await patient.ask("callInitiate", receiverId="doctor_123", callType="audio")
        assert (tapped["status"], tapped["data"]) == ("duplicate", first["data"])
        await doctor.echo()
        assert len(doctor.heard("callInitiate")) == 1
        assert not patient.heard("callEnd")


# Glare (RFC 3261 §14.1 knows it within a call; here it is two calls at once)


async def test_two_users_calling_each_other_end_in_one_call(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("doctor_123", "doctor", "hospital_001") as tablet,
    ):
        call_id = await ring(patient, "doctor_123")
        request = {"receiverId": "patient_123", "callType": "audio", "clientMessageId": "back"}
        back = await doctor.ask("callInitiate", **request)
        assert back["data"] == {"callId": call_id}
        initiated = await doctor.expect("callInitiated")
        assert (initiated["status"], initiated["data"]["initiatorId"]) == ("active", "patient_123")
        accepted = await patient.expect("callAccept")
        assert (accepted["callId"], accepted["userId"], accepted["answer"]) == (call_id, "doctor_123", None)
        assert (await tablet.expect("callAnsweredElsewhere"))["callId"] == call_id
        assert (await doctor.ask("callInitiate", **request))["status"] == "duplicate"
        await patient.echo()
        assert not patient.heard("callInitiate")
        assert await Call.objects.acount() == 1


def test_two_concurrent_calls_to_each_other_end_in_one_call(users: Users) -> None:
    def call(caller: str, callee: str) -> str:
        try:
            request = messages.InitiateCall(receiver_id=callee, call_type="audio")
            answer = initiate(users[caller], request, f"device of {caller}")
            return str((answer.ack_data or {})["callId"])
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(call, "patient_123", "doctor_123")
        other = pool.submit(call, "doctor_123", "patient_123")
        assert one.result() == other.result()
    [placed] = Call.objects.all()
    assert (placed.status, {part.status for part in placed.people}) == ("active", {"joined"})


def test_concurrent_calls_to_one_callee_all_ring(users: Users) -> None:
    """Patients too: a line that only rings is busy only for who calls about something less urgent."""
    callers = ["patient_123", "nurse_001", "doctor_456", "admin_001", "paramedic_456", "test_user"]

    def call(caller: str) -> str:
        try:
            request = messages.InitiateCall(receiver_id="doctor_123", call_type="audio")
            initiate(users[caller], request, f"device of {caller}")
            return "rings"
        except errors.CallBusy:
            return "busy"
        finally:
            connection.close()

    with ThreadPoolExecutor(len(callers)) as pool:
        outcomes = list(pool.map(call, callers))
    ringing = Participant.objects.present().filter(user="doctor_123")
    assert ringing.count() == outcomes.count("rings") >= 4  # those of the staff, whatever the order
    assert ringing.filter(invited_by__role="patient").count() == outcomes.count("rings") - 4


def test_concurrent_accept_on_two_devices_succeeds_once(users: Users) -> None:
    request = messages.InitiateCall(receiver_id="doctor_123", call_type="audio")
    made = initiate(users["patient_123"], request, "device of patient_123").ack_data or {}

    def take(device: str) -> str:
        try:
            actions.accept(users["doctor_123"], messages.AcceptCall(call_id=made["callId"]), device)
            return "taken"
        except errors.CallInvalidState:
            return "too late"
        finally:
            connection.close()

    live = live_devices(users["doctor_123"], 4)
    with ThreadPoolExecutor(4) as pool:
        outcomes = sorted(pool.map(take, live))
    assert outcomes == ["taken", "too late", "too late", "too late"]


def live_devices(user: User, count: int) -> list[str]:
    """Sockets of a server that runs somewhere else."""
    from hplus.realtime.models import Connection, ServerProcess

    server = ServerProcess.objects.create(host="elsewhere", pid=1)
    sockets = [Connection(server=server, user=user, role=user.role) for _ in range(count)]
    return [socket.pk for socket in Connection.objects.bulk_create(sockets)]
