"""Emergencies, calls, positions and notices of others answer exactly as those that do not exist."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client

from emergency.models import Emergency
from hplus.accounts.models import User
from hplus.realtime.bridge import in_thread
from tests.ledger import note
from tests.security.test_objects_of_others import NOWHERE, bare, client_of
from tests.servers import ThreadServer

HOSPITAL = "hospital_001"
NOBODY = "nobody_999"
HELP = {
    "patientId": "patient_123",
    "hospitalId": HOSPITAL,
    "location": {"lat": 37.0, "lng": -122.0},
    "condition": "Chest pain",
    "priority": "low",
}
OUTSIDERS = [
    ("test_user", "patient", None),
    ("doctor_002", "doctor", "hospital_002"),
    ("admin_002", "admin", "hospital_002"),
]
# E, C and N stand for an emergency, a call and a notice; U for the person it is about.
WORDS: list[tuple[str, dict[str, Any]]] = [
    ("emergencyResponse", {"emergencyId": "E", "action": "accept"}),
    ("emergencyResponse", {"emergencyId": "E", "action": "reject"}),
    ("emergencyStatusUpdate", {"emergencyId": "E", "status": "cancelled"}),
    ("emergencyStatusUpdate", {"emergencyId": "E", "phase": "onScene"}),
    ("emergencyReassign", {"emergencyId": "E", "assigneeId": "doctor_002", "reason": "because"}),
    ("emergencyTransfer", {"emergencyId": "E", "toHospitalId": "hospital_002", "reason": "because"}),
    ("nearestResponders", {"emergencyId": "E"}),
    ("callAccept", {"callId": "C"}),
    ("callReject", {"callId": "C"}),
    ("callEnd", {"callId": "C"}),
    ("callAddParticipant", {"callId": "C", "participantId": "doctor_002"}),
    ("callSignal", {"callId": "C", "targetUserId": "doctor_123", "signalType": "offer", "sdp": "v=0"}),
    ("locationRequest", {"targetUserId": "U"}),
    ("locationRequest", {"targetUserId": "U", "emergencyId": "E"}),
    ("notification", {"action": "markRead", "notificationId": "N"}),
]
READS = [
    "/api/emergencies/E/",
    "/api/emergencies/E/timeline/",
    "/api/emergencies/E/track.geojson",
    "/api/emergencies/E/fhir/",
    "/api/emergencies/E/nearest/",
    "/api/calls/C/",
    "/api/location/U/",
]
WRITES: list[tuple[str, dict[str, Any]]] = [
    ("/api/emergencies/E/response/", {"action": "accept"}),
    ("/api/emergencies/E/status/", {"status": "cancelled"}),
    ("/api/emergencies/E/reassign/", {"assigneeId": "doctor_002", "reason": "because"}),
    ("/api/emergencies/E/transfer/", {"toHospitalId": "hospital_002", "reason": "because"}),
    ("/api/notifications/read/", {"notificationId": "N"}),
]
DESK = ["emergency/emergency/E", "calls/call/C", "notifications/notification/N", "accounts/user/U"]
MISSING = {"E": NOWHERE, "C": NOWHERE, "N": NOWHERE, "U": NOBODY}


@contextlib.asynccontextmanager
async def a_busy_ward(server: ThreadServer) -> AsyncIterator[dict[str, str]]:
    """A patient who called for help and is in a call, and a nurse with a notice: the ids of all that."""
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
        server.phone("admin_001", "admin", HOSPITAL) as admin,
        server.phone("nurse_001", "nurse", HOSPITAL) as nurse,
    ):
        emergency = (await patient.ask("emergencyRequest", **HELP))["data"]["emergencyId"]
        place = {"lat": 37.0, "lng": -122.0, "accuracy": 5.0}
        await patient.ask("locationUpdate", location=place, isEmergency=True)
        calling = {"receiverId": "doctor_123", "hospitalId": HOSPITAL, "callType": "audio"}
        call = (await patient.ask("callInitiate", **calling))["data"]["callId"]
        await doctor.expect("callInitiate", callId=call)
        await admin.ask("notification", target={"userId": "nurse_001"}, title="Ward 3", body="Now")
        notice = (await nurse.expect("notification", title="Ward 3"))["notificationId"]
        yield {"E": emergency, "C": call, "N": notice, "U": "patient_123"}
        assert (await Emergency.objects.aget(pk=emergency)).status == "pending"


def filled(value: Any, ids: dict[str, str]) -> Any:
    return ids.get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize("stranger", OUTSIDERS, ids=lambda who: who[0])
async def test_on_the_socket(server: ThreadServer, stranger: tuple[str, str, str | None]) -> None:
    async with a_busy_ward(server) as ids, server.phone(*stranger) as phone:
        for word, fields in WORDS:
            real = await phone.ask(word, **{k: filled(v, ids) for k, v in fields.items()})
            none = await phone.ask(word, **{k: filled(v, MISSING) for k, v in fields.items()})
            is_same = bare(real, *ids.values()) == bare(none, NOWHERE, NOBODY)
            note("care of others, by socket", let_in=int(not is_same or real["type"] != "error"))
            assert real["type"] == "error", word
            assert is_same, (real, none)
        heard = {frame["type"] for frame in phone.history}
        assert heard <= {"connection_established", "error"}


@pytest.mark.parametrize("stranger", OUTSIDERS, ids=lambda who: who[0])
async def test_over_http(server: ThreadServer, stranger: tuple[str, str, str | None]) -> None:
    async with a_busy_ward(server) as ids, await client_of(server, stranger[0]) as client:
        asked = [("GET", path, None) for path in READS] + [("POST", *write) for write in WRITES]
        for method, path, body in asked:
            real, none = [
                await client.request(
                    method, spelt(path, names), json=body and {k: filled(v, names) for k, v in body.items()}
                )
                for names in (ids, MISSING)
            ]
            answers = real.status_code, bare(real.json(), *ids.values())
            is_same = answers == (none.status_code, bare(none.json(), NOWHERE, NOBODY))
            note("care of others, over HTTP", let_in=int(not is_same or real.status_code < 400))
            assert real.status_code in (403, 404), (path, real.text)
            assert is_same, (path, real.text, none.text)
        for path in ("/api/emergencies/", "/api/calls/", "/api/notifications/"):
            listed = (await client.get(path)).text
            assert not [one for one in ids.values() if one in listed], path


def spelt(path: str, ids: dict[str, str]) -> str:
    return "/".join(ids.get(part, part) for part in path.split("/"))


async def test_at_the_desk(server: ThreadServer) -> None:
    """The admin site of another hospital knows nothing of it; that of its own does."""

    def look(user_id: str, path: str) -> tuple[int, str]:
        client = Client()
        client.force_login(User.objects.get(pk=user_id))
        answer = client.get(f"/admin/{path}/change/")
        said = [str(message) for message in get_messages(answer.wsgi_request)]
        return answer.status_code, f"{answer.headers.get('Location')} {said}"

    async with a_busy_ward(server) as ids:
        assert (await in_thread(look, "admin_001", spelt(DESK[0], ids)))[0] == 200
        for path in DESK:
            status, said = await in_thread(look, "admin_002", spelt(path, ids))
            missing = await in_thread(look, "admin_002", spelt(path, MISSING))
            is_same = (status, bare_text(said, ids)) == (missing[0], bare_text(missing[1], MISSING))
            note("care of others, in the admin site", let_in=int(not is_same or status == 200))
            assert status != 200, path
            assert is_same, (path, said, missing)


def bare_text(text: str, ids: dict[str, str]) -> str:
    for one in ids.values():
        text = text.replace(one, "ID")
    return text


async def test_what_the_frame_says_of_an_emergency_counts_for_nothing(server: ThreadServer) -> None:
    forged = {
        "requestedBy": "doctor_456",
        "requestedByRole": "doctor",
        "status": "completed",
        "assignedTo": "doctor_456",
        "assignedRole": "doctor",
        "phase": "inService",
        "escalationLevel": 2,
        "version": 99,
        "emergencyId": NOWHERE,
    }
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
    ):
        await patient.ask("emergencyRequest", **HELP, **forged)
        data = (await doctor.expect("emergencyAlert"))["data"]
        answer = {"emergencyId": data["emergencyId"], "action": "accept"}
        await doctor.ask(
            "emergencyResponse",
            **answer,
            responderId="doctor_456",
            assignedTo="doctor_456",
            status="completed",
        )
        response = (await patient.expect("emergencyResponse"))["data"]
        facts = {
            "requestedBy": (data["requestedBy"], "patient_123"),
            "requestedByRole": (data["requestedByRole"], "patient"),
            "status": (data["status"], "pending"),
            "assignedTo": (data["assignedTo"], None),
            "phase": (data["phase"], None),
            "escalationLevel": (data["escalationLevel"], 0),
            "responderId": (response["responderId"], "doctor_123"),
            "assignedTo of the answer": (response["assignedTo"], "doctor_123"),
            "status of the answer": (response["status"], "accepted"),
        }
        taken = {name: is_ for name, (is_, should_be) in facts.items() if is_ != should_be}
        note("forged requestedBy, status, assignedTo", rounds=len(facts), let_in=len(taken))
        assert not taken
        assert data["emergencyId"] != NOWHERE
