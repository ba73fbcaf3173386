"""Somebody gets another hospital or role: what is under way ends, and nothing of the former place stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from calls.models import Call
from emergency.models import Emergency
from hplus.accounts.models import Session, User
from hplus.audit.models import Record, Verb
from hplus.management.commands.seed_demo import PASSWORD
from hplus.operations.moving import move
from hplus.push.models import PushDevice
from hplus.realtime.execution.db_threads import in_db_thread
from hplus.realtime.models import Contact
from location.models import Grant
from tests.api import Api
from tests.servers import ThreadServer

ONE, TWO = "hospital_001", "hospital_002"
HELP = {
    "patientId": "patient_123",
    "hospitalId": ONE,
    "location": {"lat": 37.0, "lng": -122.0},
    "condition": "Chest pain",
    "priority": "critical",
}


async def moved(user_id: str, **place: Any) -> None:
    def run() -> None:
        root, user = User.objects.get(pk="root"), User.objects.get(pk=user_id)
        move(root, user, **place)

    await in_db_thread(run)


async def test_doctor_who_changes_hospital_begins_anew(server: ThreadServer, settings: Any) -> None:
    settings.RECONCILE_SECONDS = 0.2
    async with (
        Api(server, "doctor_123") as http,
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", ONE) as nurse,
    ):
        access = http.tokens["access"]
        async with server.phone("doctor_123", "doctor", ONE, token=access) as doctor:
            await doctor.ask("login", token=access, deviceId="phone", pushToken="a push token")
            old = doctor.established
            called = await patient.ask("emergencyRequest", **HELP)
            emergency_id = called["data"]["emergencyId"]
            for staff in (doctor, nurse):
                await staff.expect("emergencyAlert", emergencyId=emergency_id)
            await doctor.ask("emergencyResponse", emergencyId=emergency_id, action="accept")
            room = {"receiverId": "patient_123", "hospitalId": ONE}
            await doctor.ask("sendMessage", **room, message="I am coming")
            await nurse.ask("sendMessage", receiverId="doctor_123", hospitalId=ONE, message="Hurry")
            await nurse.ask("notification", target={"userId": "doctor_123"}, title="A note", body="for you")
            await doctor.expect("notification", title="A note")
            call = {"receiverId": "doctor_123", "callType": "audio", "hospitalId": ONE}
            call_id = (await patient.ask("callInitiate", **call))["data"]["callId"]
            await doctor.ask("callAccept", callId=call_id)
            await patient.expect("callAccept")

            await moved("doctor_123", role="doctor", hospital_id=TWO)
            await doctor.expect_error("SESSION_REVOKED")
            assert await doctor.expect_close() == 4005

        former = [emergency_id, call_id, "I am coming", "Hurry", "A note"]
        # What was under way is over, and those concerned hear of it.
        await patient.expect("callEnd", callId=call_id)
        await nurse.expect("emergencyAlert", emergencyId=emergency_id)
        emergency = await Emergency.objects.aget(pk=emergency_id)
        assert (emergency.status, emergency.assigned_to_id) == ("pending", None)
        assert emergency.escalate_at is not None
        assert (await Call.objects.aget(pk=call_id)).ended_at is not None
        assert not await Grant.objects.open().filter(subject="doctor_123").aexists()
        assert not await PushDevice.objects.filter(user="doctor_123").aexists()
        assert not await Contact.objects.filter(user="doctor_123").aexists()
        assert not await Session.objects.filter(user="doctor_123", revoked_at=None).aexists()

        # One line in the audit says who moved whom.
        [row] = [row async for row in Record.objects.filter(verb=Verb.MOVE)]
        assert (row.actor_id, row.object_id) == ("root", "doctor_123")
        assert row.details == {
            "former": {"role": "doctor", "hospital": ONE},
            "new": {"role": "doctor", "hospital": TWO},
        }

        # Nothing of the former place is replayed or listed, with whatever cursor.
        await http.sign_in()
        for cursor in ({"since": 0}, {"since": 1}, {"since": 0, "epoch": old["epoch"]}):
            query = {"token": http.tokens["access"], **cursor}
            async with server.phone("doctor_123", "doctor", TWO, **query) as back:
                assert back.established["recovered"] is False
                assert back.established["epoch"] != old["epoch"]
                assert back.established["data"]["activeEmergencies"] == []
                assert back.established["data"]["unread"] == []
                await back.echo()
                await back.send("sync", **cursor, requestId="all")
                done = await back.expect("syncComplete")
                assert done["recovered"] is False
                assert not [mark for mark in former if mark in json.dumps(back.history)]
        for path in ("notifications/", "calls/", "chat/rooms/", "sync/?since=0"):
            answer = await http.get(path)
            assert answer.status_code == 200
            assert not [mark for mark in former if mark in answer.text], path
        assert (await http.get(f"emergencies/{emergency_id}/")).status_code == 404


async def test_nurse_made_a_patient_loses_the_rooms_of_the_staff(server: ThreadServer) -> None:
    async with Api(server, "nurse_001") as nurse, Api(server, "doctor_123") as doctor:
        room = (await nurse.post("chat/rooms/", json={"receiverId": "doctor_123", "hospitalId": ONE})).json()
        there = f"chat/rooms/{room['chatRoomId']}/messages/"
        assert (await nurse.get(there)).status_code == 200
        await moved("nurse_001", role="patient", hospital_id=None)
        await nurse.sign_in()
        assert (await nurse.get("chat/rooms/")).json()["rooms"] == []
        assert (await nurse.get(there)).status_code == 404
        assert (await doctor.get(there)).status_code == 200


async def test_change_without_the_action_cuts_the_mailbox_too(server: ThreadServer) -> None:
    """Whoever changes the row by hand: the database itself notes when it was."""
    async with Api(server, "nurse_001") as http:
        async with server.phone("patient_123", "patient") as patient:
            await patient.ask("emergencyRequest", **HELP)
            await patient.ask("sendMessage", receiverId="nurse_001", hospitalId=ONE, message="Hello")
        await User.objects.filter(pk="nurse_001").aupdate(hospital_id=TWO)
        missed = (await http.get("sync/", params={"since": 0})).json()
        assert "Hello" not in json.dumps(missed)
        assert missed["complete"]["recovered"] is False


@pytest.mark.usefixtures("users")
def test_admin_page_moves_a_person() -> None:
    root = Client()
    root.post("/admin/login/", {"username": "root", "password": PASSWORD})
    form = {"name": "Nora", "role": "nurse", "hospital": TWO, "department": "", "specialization": ""}
    response = root.post("/admin/accounts/user/nurse_001/change/", form)
    assert response.status_code == 302, response.content
    nurse = User.objects.get(pk="nurse_001")
    assert (nurse.hospital_id, nurse.name) == (TWO, "Nora")
    assert nurse.moved_at is not None
    assert Record.objects.filter(verb=Verb.MOVE, object_id="nurse_001", actor_id="root").count() == 1
