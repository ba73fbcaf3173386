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
