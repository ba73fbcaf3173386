"""Uploads as phones make them: voice notes, parts of files, quotas, and what nobody names."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from django.contrib.auth.models import Permission
from django.utils import timezone

from chat.models import Attachment, ChatRoom
from chat.retention import delete_unnamed_uploads
from hplus.accounts.models import User
from hplus.audit.models import Record
from hplus.operations import disk
from hplus.realtime.execution.db_threads import in_db_thread
from tests.api import Api, refused
from tests.chat.test_file_metadata import SECRET, VIDEO, box, picture
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS

HOSPITAL = "hospital_001"
TO_DOCTOR = {"receiverId": "doctor_123", "hospitalId": HOSPITAL}
MP4 = box(b"ftyp", b"mp42\x00\x00\x00\x00isommp42")
AUDIO_TRACK = box(b"moov", box(b"trak", box(b"mdia", box(b"hdlr", bytes(8), b"soun", bytes(13)))))
VIDEO_TRACK = box(b"moov", box(b"trak", box(b"mdia", box(b"hdlr", bytes(8), b"vide", bytes(13)))))
WEBM = b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm"
AS_PHONES_RECORD = {
    "ios.m4a": (box(b"ftyp", b"M4A \x00\x00\x00\x00M4A mp42") + AUDIO_TRACK, "audio"),
    "android.m4a": (MP4 + AUDIO_TRACK, "audio"),
    "clip.mp4": (MP4 + VIDEO_TRACK, "video"),
    "old.3gp": (box(b"ftyp", b"3gp4\x00\x00\x00\x003gp4") + AUDIO_TRACK, "audio"),
    "note.aac": (b"\xff\xf1\x50\x80" + bytes(100), "audio"),
    "note.amr": (b"#!AMR\n" + bytes(100), "audio"),
    "wide.awb": (b"#!AMR-WB\n" + bytes(100), "audio"),
    "note.ogg": (b"OggS\x00\x02" + bytes(20) + b"\x01\x13OpusHead" + bytes(100), "audio"),
    "note.caf": (b"caff\x00\x01\x00\x00desc" + bytes(100), "audio"),
    "browser.webm": (WEBM + b"\x86\x86A_OPUS" + bytes(100), "audio"),
    "film.webm": (WEBM + b"\x86\x85V_VP8" + bytes(100), "video"),
    "photo.heic": (picture("HEIF"), "image"),
    "photo.heif": (box(b"ftyp", b"mif1\x00\x00\x00\x00mif1") + bytes(100), "image"),
}


class Uploader:
    """The patient with an open room, and who else is in this test."""

    def __init__(self, server: ThreadServer, patient: Api, room_id: str) -> None:
        self.server, self.api, self.room_id = server, patient, room_id

    async def upload(self, name: str, content: bytes) -> httpx.Response:
        files = {"file": (name, content)}
        return await self.api.post("chat/attachments/", data={"chatRoomId": self.room_id}, files=files)


@pytest_asyncio.fixture
async def patient(server: ThreadServer) -> AsyncIterator[Uploader]:
    async with Api(server, "patient_123") as api:
        opened = await api.post("chat/rooms/", json=TO_DOCTOR)
        yield Uploader(server, api, opened.json()["chatRoomId"])


def path_of(answer: httpx.Response) -> str:
    return str(answer.json()["url"])


async def test_voice_notes_and_pictures_are_taken_as_phones_make_them(patient: Uploader) -> None:
    for name, (content, kind) in AS_PHONES_RECORD.items():
        answer = await patient.upload(name, content)
        assert answer.status_code == 201, (name, answer.text)
        assert (answer.json()["name"], answer.json()["type"]) == (name, kind)


async def test_file_leaves_with_an_extension_of_what_it_is(patient: Uploader) -> None:
    for sent, content, stored in [
        ("q.html", b"plain text", "q.txt"),
        ("report.v2", b"%PDF-1.4\n" + b"1" * 100, "report.v2.pdf"),
        ("scan.exe", b"%PDF-1.4\n" + b"1" * 100, "scan.pdf"),
        ("values.CSV", b"a,b\n1,2\n", "values.CSV"),
    ]:
        assert (await patient.upload(sent, content)).json()["name"] == stored, sent


async def test_picture_leaves_without_place_and_the_original_is_for_the_audit(patient: Uploader) -> None:
    content = picture("JPEG")
    url = path_of(await patient.upload("wound.jpg", content))
    async with Api(patient.server, "doctor_123") as doctor, Api(patient.server, "admin_001") as admin:
        seen = (await doctor.get(url)).content
        assert SECRET in content
        assert SECRET not in seen
        for who in (patient.api, doctor, admin):
            refused(await who.get(f"{url}?original=1"), 404, "MESSAGE_NOT_FOUND")
        await in_db_thread(let_read_originals, "admin_001")
        assert (await admin.get(f"{url}?original=1")).content == content
    [row] = [row async for row in Record.objects.filter(details__original=True)]
    assert row.actor_id == "admin_001"


def let_read_originals(user_id: str) -> None:
    right = Permission.objects.get(codename="view_deleted_original")
    User.objects.get(pk=user_id).user_permissions.add(right)


async def test_players_get_the_part_they_ask_for(patient: Uploader) -> None:
    answer = await patient.upload("clip.mp4", VIDEO)
    url, size = path_of(answer), answer.json()["size"]
    whole = (await patient.api.get(url)).content
    etag = (await patient.api.get(url)).headers["etag"]
    for asked, expected in [
        ("bytes=0-1", (0, 1)),
        ("bytes=10-", (10, size - 1)),
        ("bytes=-5", (size - 5, size - 1)),
        (f"bytes=5-{size * 9}", (5, size - 1)),
        (f"bytes=-{size * 9}", (0, size - 1)),
    ]:
        part = await patient.api.get(url, headers={"Range": asked, "If-Range": etag})
        first, last = expected
        assert part.status_code == 206, asked
        assert part.content == whole[first : last + 1]
        assert part.headers["content-range"] == f"bytes {first}-{last}/{size}"
        assert part.headers["accept-ranges"] == "bytes"
    for asked in ("bytes=a-b", "bytes=5-1", "bytes=0-1,5-6", "lines=0-1", "bytes=-", ""):
        assert (await patient.api.get(url, headers={"Range": asked})).status_code == 200, asked
    other = await patient.api.get(url, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, whole)
    for asked in (f"bytes={size}-", "bytes=-0"):
        beyond = await patient.api.get(url, headers={"Range": asked})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")


@pytest.mark.parametrize("scope", ["user", "room", "hospital"])
async def test_upload_beyond_a_quota_is_refused_with_what_is_left(
    patient: Uploader, settings: Any, scope: str
) -> None:
    settings.HPLUS_UPLOAD_QUOTA_MB = {**dict.fromkeys(("user", "room", "hospital"), 0), scope: 1}
    text = b"t" * (600 * 1024)
    assert (await patient.upload("a.txt", text)).status_code == 201
    error = refused(await patient.upload("b.txt", text), 413, "QUOTA_EXCEEDED")
    assert error["details"] == {"scope": scope, "quotaBytes": 1024**2, "bytesLeft": 1024**2 - len(text)}
    assert (await patient.upload("c.txt", b"t" * error["details"]["bytesLeft"])).status_code == 201
    yesterday = timezone.now() - timedelta(hours=25)
    await Attachment.objects.aupdate(uploaded_at=yesterday)
    again = await patient.upload("d.txt", text)
    assert again.status_code == (201 if scope == "user" else 413)


async def test_full_disk_refuses_uploads_and_is_seen(
    patient: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with httpx.AsyncClient(base_url=patient.server.url, timeout=PATIENCE_SECONDS) as anybody:
        assert (await anybody.get("/health/")).json()["warnings"] == []
        for module in ("chat.quotas", "hplus.operations.health"):
            monkeypatch.setattr(f"{module}.free_bytes", lambda: disk.LEAST_FREE_BYTES)
        health = await anybody.get("/health/")
        assert (health.status_code, health.json()["warnings"]) == (200, ["disk"])
        assert "hplus_attachments_free_bytes" in (await anybody.get("/metrics")).text
    error = refused(await patient.upload("a.txt", b"text"), 413, "QUOTA_EXCEEDED")
    assert error["details"]["scope"] == "server"


async def test_upload_that_no_message_names_is_deleted_after_a_day(patient: Uploader) -> None:
    async def upload(name: str) -> dict[str, Any]:
        return dict((await patient.upload(name, picture("JPEG"))).json())

    sent, linked, unsent, fresh = [await upload(name) for name in ("sent", "linked", "unsent", "fresh")]
    for text, files in (("", [sent]), (f"Look: {linked['url']}", [])):
        body = {**TO_DOCTOR, "message": text, "messageType": "image", "attachments": files}
        assert (await patient.api.post("chat/messages/", json=body)).status_code == 201
    recent = fresh["url"].rstrip("/").rpartition("/")[2]
    old = Attachment.objects.exclude(pk=recent)
    await old.aupdate(uploaded_at=timezone.now() - timedelta(hours=25))
    gone = await Attachment.objects.aget(name="unsent.jpg")
    assert await in_db_thread(delete_unnamed_uploads) == 1
    for file, status in ((sent, 200), (linked, 200), (unsent, 404), (fresh, 200)):
        assert (await patient.api.get(file["url"])).status_code == status
    storage = gone.file.storage
    assert not any(storage.exists(file.name) for file in (gone.file, gone.original))
    assert await in_db_thread(delete_unnamed_uploads) == 0


async def test_legal_hold_keeps_what_no_message_names(patient: Uploader) -> None:
    await patient.upload("a.txt", b"text")
    await Attachment.objects.aupdate(uploaded_at=timezone.now() - timedelta(hours=25))
    await ChatRoom.objects.aupdate(held_at=timezone.now(), held_by_id="admin_001")
    assert await in_db_thread(delete_unnamed_uploads) == 0
    assert await Attachment.objects.acount() == 1


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JAVASCRIPT:alert(1)",
        " javascript:alert(1)",
        "java\tscript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "http://files.example/a.png",
        "file:///etc/passwd",
        "//files.example/a.png",
        "https:",
        "https:///a.png",
        "http://[odd",
        "/api/chat/rooms/",
        "\\\\server\\share",
        "vbscript:x",
        "blob:https://a.example/1",
    ],
)
async def test_address_that_an_app_would_run_is_refused(patient: Uploader, url: str) -> None:
    body = {**TO_DOCTOR, "message": "", "messageType": "file", "attachments": [{"url": url}]}
    error = refused(await patient.api.post("chat/messages/", json=body), 400, "VALIDATION_ERROR")
    assert error["details"]["field"] == "attachments.0.url"


async def raw(server: ThreadServer, request: bytes) -> bytes:
    """Send bytes, and read until the server closes or has answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head


HUGE = 300 * 1024**2


@pytest.mark.parametrize(
    "headers",
    [
        f"Content-Length: {HUGE}",
        f"Content-Length: {HUGE}\r\nAuthorization: Bearer x",
        "Content-Length: 2000000",
    ],
)
async def test_long_body_is_refused_before_it_is_read(server: ThreadServer, headers: str) -> None:
    request = f"POST /api/chat/attachments/ HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n"
    assert b" 413 " in (await raw(server, request.encode())).splitlines()[0]


async def test_long_body_of_unknown_length_is_refused_by_counting(server: ThreadServer) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"x" * 65536

    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_SECONDS) as nobody:
        try:
            answer = await nobody.post("/api/auth/token/", content=endless())
        except (httpx.WriteError, httpx.ReadError):
            return  # the server closed while more was being sent, and the answer was lost on the way
    refused(answer, 413, "MESSAGE_TOO_LARGE")


async def test_chunked_body_is_read_like_any_other(server: ThreadServer, patient: Uploader) -> None:
    async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    body = chunks(
        b'\xef\xbb\xbf{"receiverId": "doctor_123", "hospi', b'talId": "hospital_001", "message": "x"}'
    )
    headers = {"Content-Type": "application/json"}
    answer = await patient.api.post("chat/messages/", content=body, headers=headers)
    assert answer.status_code == 201, answer.text
    form = httpx.Request(
        "POST", "http://x", data={"chatRoomId": patient.room_id}, files={"file": io.BytesIO(b"x")}
    )
    answer = await patient.api.post(
        "chat/attachments/",
        content=chunks(form.read()),
        headers={"Content-Type": form.headers["content-type"]},
    )
    assert answer.status_code == 201, answer.text


async def test_missing_last_slash_is_served_and_not_redirected(patient: Uploader) -> None:
    answer = await patient.api.post("chat/messages", json={**TO_DOCTOR, "message": "x"})
    assert answer.status_code == 201
    assert (await patient.api.get("chat/rooms?x=1")).status_code == 200
    refused(await patient.api.get("nothing"), 404, "NOT_FOUND")
