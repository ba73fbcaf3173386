"""One set of nasty texts, in every place where people write, through every page, export, log and push."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote as quoted

import pytest
import pytest_asyncio
from django.contrib.admin.utils import quote
from django.test import Client
from django.urls import reverse

from chat.models import Attachment
from emergency.models import Emergency
from hplus.accounts.models import Hospital, Session, User
from hplus.operations.logs import OneLine
from hplus.protocol import wire
from hplus.push.models import PushDevice, PushOutbox
from hplus.realtime.execution.db_threads import in_db_thread
from tests.admin_site import admin_client_of
from tests.api import Api
from tests.full_dataset import LISTS, fill
from tests.phone import Frame, Phone
from tests.security.test_care_data_isolation import HELP
from tests.servers import ThreadServer

NASTY = {
    "script": '<script>alert("zq")</script>',
    "attribute": "\"'><img src=x onerror=alert('zq')>",
    "template": "{{ zq }}{% zq %}${zq}",
    "formula": "=cmd|' /C calc'!A0zq",
    "formula behind a space": " \u00a0@SUM(1+1)*zq",
    "control": "zq\x07\x1b[31mred\x7f\x85",
    "bidi override": "zq \u202egnp.exe\u2066 left open",
    "zero-width": "zq\u200b\u200d\ufeff\u2060zq",
    "NUL": "zq\x00zq",
    "lone surrogate": "zq\ud800zq",
    "path": "../../../etc/passwd\\..\\zq",
    "line breaks": "zq\r\nSet-Cookie: zq=1\r\n\r\n2026-01-01 00:00:00,000 ERROR forged zq",
    "very long": "zq" * 20_000,
    "emoji": "zq 🚑\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1ea\U0001f1fa e\u0301",
    "separators": "zq\u2028zq\u2029;zq,zq\tzq",
}
REFUSED = (
    None,
    "VALIDATION_ERROR",
    "INVALID_JSON",
    "MESSAGE_TOO_LARGE",
    "CALL_NOT_FOUND",
    "CHAT_ROOM_NOT_FOUND",
)
TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
ROOM = {"receiverId": "doctor_123", "hospitalId": "hospital_001"}
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
JSON_LISTS = [
    "chat/rooms/",
    "emergencies/",
    "calls/",
    "notifications/",
    "sync/?since=0",
]


@pytest.fixture(params=NASTY, ids=lambda name: name.replace(" ", "-"))
def nasty(request: pytest.FixtureRequest) -> str:
    return NASTY[request.param]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What the log would have, line by line as it is written."""
    caplog.set_level(logging.INFO)
    written: list[str] = []
    yield written
    form = OneLine("{asctime} {levelname} {name} {message}", style="{")
    for record in caplog.records:
        written += form.format(record).splitlines()
    for line in written:
        assert line.isprintable(), line
        assert line.startswith("    ") or re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ \S", line), (
            line
        )
        assert "ERROR forged" not in line[:60]
        assert not re.match(r"\S+ \S+ ERROR", line), line


@pytest_asyncio.fixture
async def written(
    users: dict[str, User], nasty: str, lines: list[str], tmp_path: Any, settings: Any, unhurried: None
) -> AsyncIterator[ThreadServer]:
    """A server where this text has been written wherever one can write."""
    settings.MEDIA_ROOT = tmp_path
    settings.HPLUS_MESSAGES_PER_MINUTE = 0
    await in_db_thread(_write_in_the_database, users, nasty)
    with ThreadServer() as server:
        await _write_over_the_wire(server, nasty)
        yield server


def _write_in_the_database(users: dict[str, User], nasty: str) -> None:
    fill(users, "001")
    text = nasty if wire.is_storable(nasty) else "zq"
    User.objects.exclude(pk__in=["admin_001", "root"]).update(name=text[:200], department=text[:150])
    Hospital.objects.update(name=text[:200], diversion_reason=text[:500])
    Session.objects.update(device_id=text[:150])
    PushDevice.objects.update(device_id=text[:150])
    Attachment.objects.update(name=text[:200])


async def _write_over_the_wire(server: ThreadServer, nasty: str) -> None:
    async with (
        server.phone("patient_123", "patient", deviceId="phone") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        Api(server, "patient_123") as http,
    ):
        for type_, fields in said(nasty):
            assert (await answer_to(patient, type_, fields)).get("code") in REFUSED
        notice = {"target": {"userId": "patient_123"}, "title": nasty[:200], "body": nasty[:2000]}
        assert (await answer_to(nurse, "notification", notice)).get("code") in REFUSED
        await patient.send("typing", **ROOM, isTyping=True)
        room = (await patient.ask("joinChatRoom", **ROOM))["data"]["chatRoomId"]
        await _upload(http, room, nasty)
        for name in ("q", "status", "cursor"):
            for path in JSON_LISTS:
                got = await http.get(f"{path.partition('?')[0]}?{name}={spelt(nasty)}")
                assert got.status_code < 500, (path, name)
    stranger = Phone(
        server.socket_url, role="patient", userId=nasty.encode("utf-8", "replace").decode()[:150]
    )
    await stranger.open()
    await stranger.expect_that(
        lambda frame: frame["type"] in ("connection_established", "error"), "an answer"
    )
    await stranger.hang_up()


def spelt(nasty: str) -> str:
    """The text in an address, as bytes that need not be UTF-8."""
    return quoted(nasty[:500].encode("utf-8", "surrogatepass"))


async def answer_to(phone: Phone, type_: str, fields: Frame) -> Frame:
    """The `ack` or `error`; that of a frame which is no JSON names no request."""
    await phone.send(type_, requestId="nasty", **fields)
    return await phone.expect_that(
        lambda frame: frame["type"] in ("ack", "error") and frame.get("requestId") in ("nasty", None),
        f"an answer to {type_}",
    )


def said(nasty: str) -> list[tuple[str, Frame]]:
    place = {"lat": 37.0, "lng": -122.0, "address": nasty}
    file = {"url": f"https://files.example/{quoted(nasty[:50].encode('utf-8', 'replace'))}", "name": nasty}
    texts = ("condition", "description", "patientName", "patientPhone")
    return [
        ("sendMessage", {**ROOM, "message": nasty}),
        ("sendMessage", {**ROOM, "message": "a file", "attachments": [file]}),
        ("sendMessage", {**ROOM, "message": "here", "messageType": "location", "location": place}),
        ("emergencyRequest", {**HELP, **dict.fromkeys(texts, nasty), "location": place}),
        ("emergencyRequest", {**HELP, "vitals": {"note": nasty, nasty[:100]: 1}}),
        ("callInitiate", {**ROOM, "callType": "audio", "offer": {"type": "offer", "sdp": nasty}}),
        ("callEnd", {"callId": nasty, "reason": nasty}),
        ("getMessages", {"chatRoomId": nasty[:150]}),
    ]


async def _upload(http: Api, room_id: str, nasty: str) -> None:
    """With the text as the name, as it is and percent-encoded, as clients send it."""
    boundary = "b0undary"
    for name in (
        nasty.encode("utf-8", "surrogatepass")[:2000],
        quoted(nasty[:500].encode("utf-8", "replace")).encode(),
    ):
        plain = name.replace(b"\r", b" ").replace(b"\n", b" ").replace(b'"', b"%22")
        body = (
            (
                f'--{boundary}\r\nContent-Disposition: form-data; name="chatRoomId"\r\n\r\n{room_id}\r\n'
                f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="'
            ).encode()
            + plain
            + f'"\r\nContent-Type: text/plain\r\n\r\nzq\r\n--{boundary}--\r\n'.encode()
        )
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        stored = await http.post("chat/attachments/", content=body, headers=headers)
        assert stored.status_code in (201, 400), stored.text
        if stored.status_code == 201:
            got = await http.get(stored.json()["url"])
            assert (got.status_code, got.content) == (200, b"zq")
            assert "zq=1" not in got.headers.get("set-cookie", "")
            assert not TURNING.search(got.headers["content-disposition"])


async def test_pages_exports_logs_and_pushes_bear_it(written: ThreadServer, nasty: str) -> None:
    await in_db_thread(_look_at_pages, nasty)
    await in_db_thread(_look_at_exports, nasty)
    await in_db_thread(_look_at_pushes)
    for user_id in ("patient_123", "doctor_123", "admin_001"):
        async with Api(written, user_id) as http:
            for path in JSON_LISTS:
                answer = await http.get(path)
                assert answer.status_code == 200, path
                assert answer.headers["content-type"].startswith("application/json")
                json.loads(answer.content.decode())


def _look_at_pages(nasty: str) -> None:
    client, admin = admin_client_of("admin_001"), User.objects.get(pk="admin_001")
    told = 0
    for address in ["/admin/", "/protocol/", "/console/", *_pages(admin)]:
        answer = client.get(address)
        is_gone = "/realtime/connection/" in address and answer.status_code == 302
        assert answer.status_code == 200 or is_gone, address
        _must_be_harmless(answer.content.decode(), address)
        told += "zq" in answer.content.decode()
    assert told > len(LISTS)  # it was there to be shown
    for model in LISTS:
        found = client.get(f"{reverse(f'{_name(model)}_changelist')}?q={spelt(nasty)}")
        assert found.status_code in (200, 302, 404), model
        _must_be_harmless(found.content.decode(), str(model))


def _must_be_harmless(page: str, address: str) -> None:
    for raw in ('<script>alert("zq")', "<img src=x", "onerror=alert('zq')>", "\x00", "\x1b", "\x07"):
        assert raw not in page, (address, raw)
    assert not TURNING.search(page), address


def _name(model: Any) -> str:
    return f"admin:{model._meta.app_label}_{model._meta.model_name}"


def _pages(admin: User) -> Iterator[str]:
    for model in LISTS:
        yield reverse(f"{_name(model)}_changelist")
        for row in model.objects.visible_to(admin)[:20]:
            yield reverse(f"{_name(model)}_change", args=[quote(row.pk)])


def _look_at_exports(nasty: str) -> None:
    client, admin = admin_client_of("admin_001"), User.objects.get(pk="admin_001")
    for model in LISTS:
        _look_at_sheet(client, model, [str(row.pk) for row in model.objects.visible_to(admin)])
    for emergency in Emergency.objects.visible_to(admin):
        for kind in ("json", "fhir"):
            got = client.get(f"/admin/emergency/emergency/{emergency.pk}/export/{kind}/")
            assert got.status_code == 200
            json.loads(got.content.decode())
            assert "\r" not in got["Content-Disposition"]


def _look_at_sheet(client: Client, model: Any, ids: list[str]) -> None:
    asked = {"action": "export_csv", "_selected_action": ids}
    response = client.post(reverse(f"{_name(model)}_changelist"), asked)
    if not response.headers.get("Content-Type", "").startswith("text/csv"):
        return
    rows = list(csv.reader(io.StringIO(response.getvalue().decode(), newline="")))
    assert len(rows) > 1, model
    assert {len(row) for row in rows} == {len(rows[0])}
    cells = [cell for row in rows[1:] for cell in row]
    assert [cell for cell in cells if cell.lstrip(" \u00a0\n").startswith(FORMULA_STARTS)] == []


def _look_at_pushes() -> None:
    pushes = list(PushOutbox.objects.all())
    assert pushes
    for push in pushes:
        content = push.content()
        assert set(content) == {"category", "id", "eventId"}
        assert all(re.fullmatch(r"[\w-]+", value) for value in content.values()), content
