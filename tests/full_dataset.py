"""A row on every list of the admin site, for each of the demo's hospitals."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from calls import actions as calls
from calls.messages import EndCall, InitiateCall
from calls.setup import initiate
from chat import actions as chat
from chat import attachments
from chat.messages import SendMessage
from chat.models import ChatRoom
from emergency.call_for_help import request_help
from emergency.messages import RequestHelp, Respond
from emergency.models import Emergency
from emergency.mutual_aid import keep_part
from emergency.response import respond
from hplus.accounts.models import Session, User
from hplus.audit.actions import record as write_down
from hplus.audit.models import Verb
from hplus.notifications.actions import notify
from hplus.push.actions import register
from hplus.realtime.models import Connection, Presence, ServerProcess
from location import actions as location
from location.messages import RequestLocation, UpdateLocation
from location.recording import record
from tests.emergency.guide_frames import create_emergency_request

LISTS = list(admin.site._registry)
PATIENTS = {"001": "patient_123", "002": "test_user"}
CREWS = {"001": "paramedic_456", "002": "paramedic_002"}


def fill(users: dict[str, User], number: str) -> None:
    """So much that each list has something of this hospital, told by its own people."""
    hospital_id, nurse, chief = f"hospital_{number}", users[f"nurse_{number}"], users[f"admin_{number}"]
    patient, crew = users[PATIENTS[number]], users[CREWS[number]]
    _talk(patient, nurse, hospital_id)
    _arrive(nurse, chief)
    _call(nurse, patient)
    _rescue(users[f"receptionist_{number}"], crew, hospital_id)
    _keep_part(hospital_id)
    location.request_location(chief, RequestLocation(target_user_id=crew.pk))
    notify([nurse.pk], category="shift", title="Change of shift", body="The round is at nine.")
    write_down(chief, Verb.READ, nurse)


def _talk(patient: User, nurse: User, hospital_id: str) -> None:
    def say(text: str, **more: Any) -> None:
        request = SendMessage(receiver_id=nurse.pk, hospital_id=hospital_id, message=text, **more)
        chat.send(patient, request)

    say("My arm hurts")
    room = ChatRoom.objects.get(hospital=hospital_id)
    file = attachments.store(patient, room, SimpleUploadedFile("arm.txt", b"red and swollen"))
    say("Here", attachments=[{"url": f"/api/chat/attachments/{file.pk}/", "name": "arm.txt"}])


def _arrive(nurse: User, chief: User) -> None:
    """The nurse has a phone in the drawer, the admin one in the hand."""
    register(Session.objects.create(user=nurse, device_id="drawer"), f"token of {nurse.pk}")
    server = ServerProcess.objects.create(host="ward", pid=1)
    Connection.objects.create(server=server, user=chief, role=chief.role, hospital=chief.hospital_id)


def _call(nurse: User, patient: User) -> None:
    request = InitiateCall(receiver_id=patient.pk, call_type="video")
    call_id = (initiate(nurse, request, connection_id="").ack_data or {})["callId"]
    calls.end(nurse, EndCall(call_id=call_id), connection_id="")


def _rescue(reception: User, crew: User, hospital_id: str) -> None:
    Presence.objects.update_or_create(pk=crew.pk, defaults={"status": "available"})
    asked = create_emergency_request(patientId=f"walk-in at {hospital_id}", hospitalId=hospital_id)
    made = request_help(reception, RequestHelp.read(asked)).ack_data or {}
    respond(crew, Respond.read({"emergencyId": made["emergencyId"], "action": "accept"}))
    place = {"location": {"lat": 37.77, "lng": -122.42, "accuracy": 5.0}, "isEmergency": True}
    record(crew, UpdateLocation.read({"data": {**place, "emergencyId": made["emergencyId"]}}))


def _keep_part(hospital_id: str) -> None:
    emergency = Emergency.objects.get(hospital=hospital_id)
    keep_part(
        emergency, hospital_id, emergency.entries.filter(kind="responded").latest("at").pk, timezone.now()
    )
