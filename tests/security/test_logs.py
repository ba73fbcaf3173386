"""What a log says: ids, words and durations. Neither tokens, nor names, nor what anybody wrote."""

from __future__ import annotations

import asyncio
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from hplus.accounts.models import User
from hplus.realtime.execution.db_threads import in_db_thread
from tests.fault_report import note
from tests.phone import Phone
from tests.security.test_identity import post, sign_in
from tests.servers import ProcessServer, ThreadServer
from tests.waiting import PATIENCE_SECONDS, until

ROOM = {"receiverId": "doctor_123", "hospitalId": "hospital_001"}
MARKS = {
    "text": "zq-text-7f3a",
    "name": "zq-name-7f3a",
    "token": "zq-token-7f3a",
    "device": "zq-device-7f3a",
    "attachment": "zq-file-7f3a",
    "reason": "zq-reason-7f3a",
    "password": "zq-password-7f3a",
    "once": "zq-once-7f3a",
    "patient": "zq-patient-7f3a",
    "phone": "zq-phone-7f3a",
    "condition": "zq-condition-7f3a",
    "address": "zq-address-7f3a",
    "vitals": "zq-vitals-7f3a",
    "notes": "zq-notes-7f3a",
    "notice": "zq-notice-7f3a",
    "sdp": "zq-sdp-7f3a",
    "push token": "zq-push-token-7f3a",
    "position": "37.7312345",
}


@pytest.mark.faults
async def test_nothing_private_is_ever_logged(users: dict[str, User]) -> None:
    await in_db_thread(lambda: User.objects.filter(pk="patient_123").update(name=MARKS["name"]))
    with ProcessServer(LOG_MARK="1") as server:
        secrets = [await _a_day(server)]
        await _an_emergency(server)
        if connection.vendor == "postgresql":
            await _database_errors(server)
        assert server.terminate() in (0, -15)
    log = server.log.decode()
    assert "connected as patient" in log
    found = [mark for mark in (*MARKS.values(), *secrets[0]) if mark in log]
    note("marks searched in the log", rounds=len(MARKS) + len(secrets[0]), let_in=len(found))
    assert not found
    forged = [line for line in log.splitlines() if line.startswith("2026-01-01 00:00:00,000 ERROR forged")]
    assert not forged


async def _a_day(server: ProcessServer) -> list[str]:
    """Everything that has a place for a mark gets one; what is refused most of all."""
    forged = "x\n2026-01-01 00:00:00,000 ERROR forged line"
    tokens = await sign_in(server, "patient_123")
    await post(server, "token", "", userId="patient_123", password=MARKS["password"])
    await post(server, "logout", MARKS["token"])
    ticket = (await post(server, "ticket", tokens["access"])).json()["ticket"]
    refused = Phone(f"ws://127.0.0.1:{server.port}", userId=forged, role=forged, token=MARKS["token"])
    await refused.open()
    await refused.expect_close()
    async with Phone(
        f"ws://127.0.0.1:{server.port}",
        userId="patient_123",
        role="patient",
        token=ticket,
        deviceId=MARKS["device"],
    ) as phone:
        file = {"url": f"https://files.example/{MARKS['attachment']}", "name": MARKS["attachment"]}
        await phone.ask(
            "sendMessage", **ROOM, message=MARKS["text"], attachments=[file], clientMessageId=MARKS["once"]
        )
        await phone.ask("sendMessage", **ROOM, message=forged, clientMessageId=MARKS["once"])
        await phone.ask("deleteMessage", messageId="none", reason=MARKS["reason"])
        await phone.ask("login", token=MARKS["token"][:0] or tokens["access"])
        for text in (forged, json.dumps({"type": forged}), "{" + MARKS["text"], MARKS["text"] * 9000):
            await phone.send_text(text)
        await phone.echo()
    async with httpx.AsyncClient(
        headers={"Authorization": f"Bearer {tokens['access']}"}, timeout=PATIENCE_SECONDS
    ) as client:
        for path in ("/api/chat/messages/", "/api/nowhere/", "/api/sync/?since=x"):
            await client.post(f"{server.url}{path}", content=MARKS["text"], headers={"Host": "a\tb"})
            await client.post(f"{server.url}{path}", json={**ROOM, "message": MARKS["text"], "receiverId": 7})
    return [tokens["access"], tokens["refresh"], ticket]


async def _an_emergency(server: ProcessServer) -> None:
    """Asked for, answered, called about, refused and pushed, with a mark in each field."""
    tokens = await sign_in(server, "nurse_001")
    query = {"userId": "nurse_001", "role": "nurse", "hospitalId": "hospital_001", "token": tokens["access"]}
    async with Phone(f"ws://127.0.0.1:{server.port}", **query) as nurse:  # and then she is away
        await nurse.ask("login", token=tokens["access"], pushToken=MARKS["push token"], platform="android")
    place = {"lat": float(MARKS["position"]), "lng": -122.0, "address": MARKS["address"], "accuracy": 5}
    asked = {
        "patientId": "patient_123",
        "hospitalId": "hospital_001",
        "location": place,
        "condition": MARKS["condition"],
        "priority": "critical",
        "patientName": MARKS["patient"],
        "patientPhone": MARKS["phone"],
        "description": {"odd": MARKS["notes"]},
        "vitals": {MARKS["vitals"]: [MARKS["vitals"]]},
    }
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        made = (await patient.ask("emergencyRequest", **asked))["data"]
        await patient.ask("emergencyRequest", **{**asked, "priority": MARKS["condition"]})
        await patient.ask("locationUpdate", location=place, isEmergency=True, status=MARKS["notes"])
        await patient.ask("locationUpdate", location={**place, "lng": MARKS["position"] * 9})
        await doctor.ask("emergencyResponse", **made, action="accept", responseNotes=MARKS["notes"])
        await doctor.ask("emergencyStatusUpdate", **made, status="pending", notes=MARKS["notes"])
        await doctor.ask("emergencyStatusUpdate", **made, status="in_progress", notes=MARKS["notes"])
        calling = {**ROOM, "callType": "audio", "offer": MARKS["sdp"]}
        call = (await patient.ask("callInitiate", **calling))["data"]
        await doctor.ask("callReject", callId=call["callId"], reason=MARKS["reason"])
        to = {"target": {"userId": "nurse_001"}, "title": MARKS["notice"], "body": MARKS["notice"]}
        await admin.ask("notification", **to, priority="urgent", data={"name": MARKS["patient"]})
        await until(lambda: b"Push to device" in server.log)


async def _database_errors(server: ProcessServer) -> None:
    """Statements that fail with the row in their message: unforeseen, logged, and still silent about it."""

    def refuse() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'row %', NEW.text USING DETAIL = NEW.text; END $$"
            )
            cursor.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON chat_message FOR EACH ROW EXECUTE FUNCTION refuse()"
            )

    def allow() -> None:
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER refuse ON chat_message; DROP FUNCTION refuse()")

    await in_db_thread(refuse)
    try:
        async with server.phone("test_user", "patient") as phone:
            answer = await phone.ask("sendMessage", **ROOM, message=MARKS["text"])
            assert answer["code"] == "INTERNAL_ERROR"
            reference = answer["details"]["reference"]
            await until(lambda: reference.encode() in server.log)
            assert MARKS["text"] not in str(answer)
            await phone.echo()
        token = (await sign_in(server, "test_user"))["access"]
        async with httpx.AsyncClient(
            headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_SECONDS
        ) as client:
            body = {**ROOM, "message": MARKS["text"]}
            answer = (await client.post(f"{server.url}/api/chat/messages/", json=body)).json()
            assert answer["code"] == "INTERNAL_ERROR"
            assert MARKS["text"] not in str(answer)
    finally:
        await in_db_thread(allow)


async def test_attachment_url_to_an_internal_address_is_never_fetched(server: ThreadServer) -> None:
    connected: list[tuple[str, int]] = []

    class Inside(HTTPServer):
        def verify_request(self, _request: object, client_address: tuple[str, int]) -> bool:
            connected.append(client_address)
            return False

    inside = Inside(("127.0.0.1", 0), BaseHTTPRequestHandler)
    Thread(target=inside.serve_forever, daemon=True).start()
    url = f"https://127.0.0.1:{inside.server_port}"
    async with server.phone("patient_123", "patient") as phone:
        files = [{"url": f"{url}/{kind}", "type": kind} for kind in ("image", "file")]
        await phone.ask("sendMessage", **ROOM, attachments=files, messageType="image")
        await phone.expect("newMessage")
    await sync_to_async(server.__exit__)()  # it has done all it had to do
    _, proof = await asyncio.open_connection("127.0.0.1", inside.server_port)
    await until(lambda: proof.get_extra_info("sockname") in connected)
    inside.shutdown()
    note("attachment addresses that point inside", rounds=len(files), let_in=len(connected) - 1)
    assert len(connected) == 1
