"""Emergencies, calls, positions and notices of others answer exactly as those that do not exist."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.messages import get_messages
from django.test import RequestFactory
from django.urls import URLResolver, get_resolver, resolve

from emergency.models import Emergency
from hplus.accounts.models import User
from hplus.realtime.execution.db_threads import in_db_thread
from hplus.routing import HPlusConsumer
from tests.admin_site import admin_client_of
from tests.fault_report import note
from tests.security import test_chat_isolation as rooms
from tests.security.test_chat_isolation import NOWHERE, a_conversation, bare, client_of
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
# E, C, N, R and A stand for an emergency, a call, a notice, a room and a file; U for the person it is about.
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("emergencyResponse", {"emergencyId": "E", "action": "accept"}),
    ("emergencyResponse", {"emergencyId": "E", "action": "reject"}),
    ("emergencyStatusUpdate", {"emergencyId": "E", "status": "cancelled"}),
    ("emergencyStatusUpdate", {"emergencyId": "E", "phase": "onScene"}),
    ("emergencyReassign", {"emergencyId": "E", "assigneeId": "doctor_002", "reason": "because"}),
    ("emergencyTransfer", {"emergencyId": "E", "toHospitalId": "hospital_002", "reason": "because"}),
    ("emergencyAmend", {"emergencyId": "E", "changes": {"priority": "critical"}, "reason": "because"}),
    ("emergencyEscalationAck", {"emergencyId": "E"}),
    ("emergencyConfirmPatient", {"emergencyId": "E", "isMe": True}),
    ("nearestResponders", {"emergencyId": "E"}),
    ("callAccept", {"callId": "C"}),
    ("callReject", {"callId": "C"}),
    ("callEnd", {"callId": "C"}),
    ("callAddParticipant", {"callId": "C", "participantId": "doctor_002"}),
    ("callSignal", {"callId": "C", "targetUserId": "doctor_123", "signalType": "offer", "sdp": "v=0"}),
    ("locationRequest", {"targetUserId": "U"}),
    ("locationRequest", {"targetUserId": "U", "emergencyId": "E"}),
    ("watchLocations", {"on": True, "emergencyId": "E"}),
    ("watchLocations", {"on": True, "emergencyId": "E", "hospitalId": HOSPITAL}),
    ("notification", {"action": "markRead", "notificationId": "N"}),
]
# Words that name people only, asked by staff of another hospital.
PEOPLE: list[tuple[str, dict[str, Any]]] = [
    ("joinChatRoom", {"receiverId": "P", "hospitalId": "hospital_002"}),
    ("sendMessage", {"receiverId": "P", "hospitalId": "hospital_002", "message": "Who are you?"}),
    ("callInitiate", {"receiverId": "P", "hospitalId": "hospital_002", "callType": "audio"}),
    ("callInitiate", {"participantIds": ["P"], "hospitalId": "hospital_002", "callType": "audio"}),
    ("notification", {"target": {"userId": "P"}, "title": "Hello", "body": "Who are you?"}),
    ("locationRequest", {"targetUserId": "P"}),
]
# Nobody is ever told anything about these.
QUIET: list[tuple[str, dict[str, Any]]] = [
    ("typing", {"receiverId": "U", "hospitalId": HOSPITAL, "isTyping": True}),
    ("locationUpdate", {"location": {"lat": 1.0, "lng": 1.0}, "isEmergency": True, "emergencyId": "E"}),
]
READS = [
    "/api/emergencies/E/",
    "/api/emergencies/E/timeline/",
    "/api/emergencies/E/track.geojson",
    "/api/emergencies/E/fhir/",
    "/api/emergencies/E/calls/",
    "/api/emergencies/E/part/",
    "/api/emergencies/E/nearest/",
    "/api/calls/C/",
    "/api/location/U/",
]
WRITES: list[tuple[str, dict[str, Any]]] = [
    ("/api/emergencies/E/response/", {"action": "accept"}),
    ("/api/emergencies/E/status/", {"status": "cancelled"}),
    ("/api/emergencies/E/reassign/", {"assigneeId": "doctor_002", "reason": "because"}),
    ("/api/emergencies/E/transfer/", {"toHospitalId": "hospital_002", "reason": "because"}),
    ("/api/emergencies/E/amend/", {"changes": {"priority": "critical"}, "reason": "because"}),
    ("/api/emergencies/E/escalation-ack/", {"note": "seen"}),
    ("/api/emergencies/E/confirm-patient/", {"isMe": True}),
    ("/api/notifications/read/", {"notificationId": "N"}),
]
ADMIN_URLS = [
    ("GET", "emergency/emergency/E/export/json/"),
    ("GET", "emergency/emergency/E/export/fhir/"),
    ("POST", "emergency/emergency/E/action/cancel/"),
    ("POST", "emergency/emergency/E/action/acknowledge/"),
    ("POST", "chat/chatroom/R/hold/"),
    ("POST", "chat/chatroom/R/release/"),
    ("GET", "chat/chatroom/R/attachments/A/"),
]
MISSING = dict.fromkeys("ECNRA", NOWHERE) | {"U": NOBODY, "P": NOBODY}


@contextlib.asynccontextmanager
async def a_busy_ward(server: ThreadServer) -> AsyncIterator[dict[str, str]]:
    """A patient who called for help and is in a call, and a nurse with a notice: the ids of all that."""
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
        server.phone("admin_001", "admin", HOSPITAL) as chief,
        server.phone("nurse_001", "nurse", HOSPITAL) as nurse,
    ):
        emergency = (await patient.ask("emergencyRequest", **HELP))["data"]["emergencyId"]
        place = {"lat": 37.0, "lng": -122.0, "accuracy": 5.0}
        await patient.ask("locationUpdate", location=place, isEmergency=True)
        calling = {"receiverId": "doctor_123", "hospitalId": HOSPITAL, "callType": "audio"}
        call = (await patient.ask("callInitiate", **calling))["data"]["callId"]
        await doctor.expect("callInitiate", callId=call)
        await chief.ask("notification", target={"userId": "nurse_001"}, title="Ward 3", body="Now")
        notice = (await nurse.expect("notification", title="Ward 3"))["notificationId"]
        room, _ = await a_conversation(server)
        file = await a_file(server, room)
        ids = {"E": emergency, "C": call, "N": notice, "R": room, "A": file}
        yield ids | {"U": "patient_123", "P": "nurse_001"}
        for phone in (patient, doctor, chief, nurse):
            await phone.echo()
            about_others = [f for f in phone.heard("locationUpdate") if f["userId"] != "patient_123"]
            assert not about_others + phone.heard("typing")
        assert (await Emergency.objects.aget(pk=emergency)).status == "pending"


async def a_file(server: ThreadServer, room_id: str) -> str:
    async with await client_of(server, "patient_123") as patient:
        file = {"file": ("a.txt", b"private", "text/plain")}
        stored = await patient.post("/api/chat/attachments/", data={"chatRoomId": room_id}, files=file)
        return str(stored.json()["url"].rstrip("/").rpartition("/")[2])


def filled(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: filled(inner, ids) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, ids) for inner in value]
    return ids.get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize("stranger", OUTSIDERS, ids=lambda who: who[0])
async def test_foreign_and_missing_care_objects_get_the_same_error_on_the_socket(
    server: ThreadServer, stranger: tuple[str, str, str | None]
) -> None:
    async with a_busy_ward(server) as ids, server.phone(*stranger) as phone:
        is_far = stranger[2] not in (None, HOSPITAL)
        for type_, fields in [*REQUESTS, *(PEOPLE if is_far else ())]:
            real = await phone.ask(type_, **filled(fields, ids))
            none = await phone.ask(type_, **filled(fields, MISSING))
            is_same = bare(real, *ids.values()) == bare(none, NOWHERE, NOBODY)
            note("care of others, by socket", let_in=int(not is_same or real["type"] != "error"))
            assert real["type"] == "error", type_
            assert is_same, (real, none)
        for type_, fields in QUIET:
            await phone.send(type_, **filled(fields, ids))
        await phone.ask("getMessages", chatRoomId=NOWHERE)
        heard = {frame["type"] for frame in phone.history}
        assert heard <= {"connection_established", "error"}


@pytest.mark.parametrize("stranger", OUTSIDERS, ids=lambda who: who[0])
async def test_foreign_and_missing_care_objects_get_the_same_error_over_http(
    server: ThreadServer, stranger: tuple[str, str, str | None]
) -> None:
    async with a_busy_ward(server) as ids, await client_of(server, stranger[0]) as client:
        asked = [("GET", path, None) for path in READS] + [("POST", *write) for write in WRITES]
        for method, path, body in asked:
            real, none = [
                await client.request(method, spelt(path, names), json=body and filled(body, names))
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


async def test_admin_site_of_another_hospital_finds_nothing(server: ThreadServer) -> None:
    """The admin site of another hospital knows nothing of it; that of its own does."""

    def look(user_id: str, method: str, path: str) -> tuple[int, str]:
        answer = admin_client_of(user_id).generic(method, f"/admin/{path}")
        said = [str(message) for message in get_messages(answer.wsgi_request)]
        body = answer.content.decode() if answer.status_code == 404 else ""
        return answer.status_code, f"{answer.headers.get('Location')} {said} {body}"

    async with a_busy_ward(server) as ids:
        pages = await in_db_thread(pages_of_one_hospital)
        apps = {path.partition("/")[0] for path, _ in pages}
        assert apps >= {"accounts", "chat", "emergency", "calls", "location", "notifications", "realtime"}
        changes = [("GET", path, nothing) for path, nothing in pages]
        special = [(method, spelt(path, ids), spelt(path, MISSING)) for method, path in ADMIN_URLS]
        for method, path, nothing in changes + special:
            if method == "GET":
                assert (await in_db_thread(look, "admin_001", method, path))[0] == 200, path
            status, said = await in_db_thread(look, "admin_002", method, path)
            missing = await in_db_thread(look, "admin_002", method, nothing)
            is_same = (status, bare_path(said, path)) == (missing[0], bare_path(missing[1], nothing))
            note("care of others, in the admin site", let_in=int(not is_same or status == 200))
            assert status != 200, path
            assert is_same, (path, said, missing)


def pages_of_one_hospital() -> list[tuple[str, str]]:
    """For each model of the admin site a page that admin_001 finds and admin_002 does not; one of nothing."""
    found = []
    for model, admin_client in admin.site._registry.items():
        requests = [RequestFactory().get("/admin/") for _ in range(2)]
        for request, user_id in zip(requests, ("admin_001", "admin_002"), strict=True):
            request.user = User.objects.get(pk=user_id)
        theirs = admin_client.get_queryset(requests[1]).values("pk")
        row = admin_client.get_queryset(requests[0]).exclude(pk__in=theirs).first()
        if row is not None:
            where = f"{model._meta.app_label}/{model._meta.model_name}"
            nothing = 2**31 - 1 if isinstance(row.pk, int) else NOWHERE
            found.append((f"{where}/{row.pk}/change/", f"{where}/{nothing}/change/"))
    return found


def bare_path(text: str, path: str) -> str:
    """What is said of a page without the name of the page."""
    for part in path.split("/"):
        if part.count("-") == 4 or part.isdigit() or "_" in part:
            text = text.replace(part, "ID")
    return text


def test_every_type_with_an_id_is_covered() -> None:
    """Every request with an id in it is sent with ids that belong to others."""
    ids = {"emergency_id", "call_id", "message_id", "chat_room_id", "reply_to", "notification_id"}
    users = {"receiver_id", "participant_ids", "participant_id", "target_user_id", "assignee_id", "target"}
    types = {handler.request for ear in HPlusConsumer.domains for handler in ear.handlers}
    naming = {type_.type for type_ in types if set(type_.model_fields) & (ids | users)}
    asked = {type_ for type_, _ in (*REQUESTS, *PEOPLE, *QUIET, *rooms.REQUESTS)}
    assert naming - asked == set()


def test_every_url_with_an_id_is_covered() -> None:
    """Likewise every address of the API with an id in it."""
    asked = {resolve(path).route for path in (*READS, *rooms.READS, *(path for path, _ in WRITES))}
    named = {route for route in routes_of(get_resolver().url_patterns) if "<" in route}
    assert {route for route in named if route.startswith("api/")} - asked == set()


def routes_of(patterns: list[Any], before: str = "") -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from routes_of(pattern.url_patterns, before + str(pattern.pattern))
        else:
            yield before + str(pattern.pattern)


async def test_forged_emergency_fields_are_ignored(server: ThreadServer) -> None:
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
