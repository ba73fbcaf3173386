"""Staff who open a room with a patient learn nothing there but the name, until the patient agrees."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings

from chat.models import ChatRoom
from hplus.accounts.models import User
from hplus.audit.models import Record
from hplus.realtime.models import Contact
from tests.phone import Phone
from tests.security.test_care_data_isolation import HELP
from tests.servers import ThreadServer
from tests.stories.test_charts import http_of

PATIENT = {"receiverId": "patient_123", "hospitalId": "hospital_001"}
NURSE = {"receiverId": "nurse_001", "hospitalId": "hospital_001"}


async def notice_to_patient(phone: Phone) -> dict[str, Any]:
    target = {"userId": "patient_123"}
    return await phone.ask("notification", target=target, title="Reminder", body="Tomorrow at nine")


@sync_to_async
def visible_to_admin() -> bool:
    admin = User.objects.get(pk="admin_001")
    return User.objects.visible_to(admin).filter(pk="patient_123").exists()


@pytest.mark.parametrize("how", ["joinChatRoom", "sendMessage"])
async def test_room_that_only_staff_opened_gives_no_presence_notice_or_page_until_the_patient_agrees(
    server: ThreadServer, how: str
) -> None:
    content = {"message": "Hello"} if how == "sendMessage" else {}
    async with (
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("patient_123", "patient") as patient,
    ):
        await nurse.ask(how, **PATIENT, **content)
        joined = await nurse.ask("joinChatRoom", **PATIENT)
        opened = await nurse.expect_that(
            lambda frame: frame["type"] == "chatRoomJoined", "the room with the patient"
        )
        assert (opened["data"]["peer"]["name"], opened["data"]["peer"]["online"]) == ("Pat Meadow", False)
        [listed] = http_of(server, "nurse_001").get("/api/chat/rooms/").json()["rooms"]
        assert listed["peer"]["online"] is False
        await patient.send("userOnline", status="away")
        await patient.echo()
        await nurse.echo()
        assert nurse.heard("userOnline") == []
        assert (await notice_to_patient(nurse))["code"] == "USER_NOT_FOUND"
        assert not await visible_to_admin()
        room = await ChatRoom.objects.aget()
        assert (room.opened_by_id, room.agreed_at) == ("nurse_001", None)
        approach = await Record.objects.aget(object_type="chat.chatroom", verb="add")
        assert (approach.actor_id, approach.object_id) == ("nurse_001", joined["data"]["chatRoomId"])
        assert approach.details == {"what": "first contact", "patientId": "patient_123"}

        await patient.ask(how, **NURSE, **content)
        await patient.send("userOnline", status="busy")
        assert (await nurse.expect("userOnline"))["userId"] == "patient_123"
        assert (await notice_to_patient(nurse))["type"] == "ack"
        assert await visible_to_admin()
        assert await Contact.objects.filter(topic=room.pk).acount() == 2
        await nurse.ask("joinChatRoom", **PATIENT)
        again = nurse.heard("chatRoomJoined")[-1]
        assert again["data"]["peer"]["online"] is True


async def test_first_contacts_of_one_person_are_limited_and_known_rooms_are_not(
    server: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "FIRST_CONTACTS_PER_HOUR", 1)
    async with (
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("test_user", "patient") as other_patient,
    ):
        assert (await nurse.ask("joinChatRoom", **PATIENT))["type"] == "ack"
        for how, content in (("joinChatRoom", {}), ("sendMessage", {"message": "Hello"})):
            another = {**PATIENT, "receiverId": "test_user"}
            refused = await nurse.ask(how, **another, **content)
            assert refused["code"] == "RATE_LIMITED"
            assert 0 < refused["retryAfter"] <= 3600
        assert (await nurse.ask("sendMessage", **PATIENT, message="Hello"))["type"] == "ack"
        colleague = {**PATIENT, "receiverId": "doctor_123"}
        assert (await nurse.ask("joinChatRoom", **colleague))["type"] == "ack", "colleagues are no approach"
        assert (await doctor.ask("joinChatRoom", **PATIENT))["type"] == "ack", "each has the own limit"
        assert (await other_patient.ask("joinChatRoom", **NURSE))["type"] == "ack"


@pytest.mark.parametrize("request_type", ["joinChatRoom", "sendMessage", "callInitiate"])
async def test_patient_is_answered_about_another_patient_as_about_nobody(
    server: ThreadServer, request_type: str
) -> None:
    more = {"sendMessage": {"message": "Hello"}, "callInitiate": {"callType": "audio"}}.get(request_type, {})
    async with server.phone("patient_123", "patient") as patient:
        answers = []
        for receiver in ("test_user", "nobody_at_all"):
            fields = {"receiverId": receiver, "hospitalId": "hospital_001"}
            refused = await patient.ask(request_type, **fields, **more)
            answers.append({key: refused.get(key) for key in ("code", "message", "details")})
        assert answers[0] == answers[1]
        assert answers[0]["code"] == "USER_NOT_FOUND"


async def test_open_emergency_agrees_to_the_rooms_of_the_staff_it_concerns(server: ThreadServer) -> None:
    """Opened before the call for help or after it; who is not alerted opens one without the patient's yes."""
    async with (
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("pharmacist_001", "pharmacist", "hospital_001") as pharmacist,
        server.phone("patient_123", "patient") as patient,
    ):
        for staff in (nurse, pharmacist):
            await staff.ask("joinChatRoom", **PATIENT)
        assert await agreed() == {"nurse_001": False, "pharmacist_001": False}
        await patient.ask("emergencyRequest", **HELP)
        assert await agreed() == {"nurse_001": True, "pharmacist_001": False}
        await doctor.ask("sendMessage", **PATIENT, message="Help is coming")
        await pharmacist.ask("joinChatRoom", **PATIENT)
        assert await agreed() == {"nurse_001": True, "pharmacist_001": False, "doctor_123": True}
        await patient.send("userOnline", status="busy")
        for staff in (nurse, doctor):
            assert (await staff.expect("userOnline", userId="patient_123", status="busy"))["status"] == "busy"
        approaches = Record.objects.filter(object_type="chat.chatroom", verb="add")
        assert {record.actor_id async for record in approaches} == {"nurse_001", "pharmacist_001"}


@pytest.mark.parametrize("caller", ["patient", "nurse"])
async def test_call_of_the_patient_or_one_taken_agrees_to_the_room(server: ThreadServer, caller: str) -> None:
    async with (
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("patient_123", "patient") as patient,
    ):
        for staff in (nurse, doctor):
            await staff.ask("joinChatRoom", **PATIENT)
        calling, called = (patient, nurse) if caller == "patient" else (nurse, patient)
        whom = {**NURSE, "receiverId": called.user_id}
        call_id = (await calling.ask("callInitiate", **whom, callType="audio"))["data"]["callId"]
        await called.expect("callInitiate", callId=call_id)
        assert await agreed() == {"nurse_001": caller == "patient", "doctor_123": False}
        await called.ask("callAccept", callId=call_id)
        assert await agreed() == {"nurse_001": True, "doctor_123": False}


async def test_room_opened_after_a_call_with_the_patient_is_no_approach(server: ThreadServer) -> None:
    async with (
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("patient_123", "patient") as patient,
    ):
        call_id = (await patient.ask("callInitiate", **NURSE, callType="audio"))["data"]["callId"]
        await patient.ask("callEnd", callId=call_id)
        for staff in (nurse, doctor):
            await staff.ask("joinChatRoom", **PATIENT)
        assert await agreed() == {"nurse_001": True, "doctor_123": False}


async def agreed() -> dict[str, bool]:
    """Whether the patient has agreed to the room of each member of the staff."""
    rooms = [room async for room in ChatRoom.objects.all()]
    return {room.peer_id("patient_123"): room.agreed_at is not None for room in rooms}
