"""What belongs to others answers exactly as what does not exist."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from pytest_django import Settings

from tests.fault_report import note
from tests.phone import Frame
from tests.security.test_identity import sign_in
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS

NOWHERE = "01900000-0000-7000-8000-000000000000"
ROOM = {"receiverId": "doctor_123", "hospitalId": "hospital_001"}
STRANGERS = [
    ("test_user", "patient", None),
    ("doctor_456", "doctor", "hospital_001"),
    ("doctor_002", "doctor", "hospital_002"),
    ("admin_002", "admin", "hospital_002"),
]
# R and M stand for a room and a message of others.
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("getMessages", {"chatRoomId": "R"}),
    ("markAsRead", {"messageId": "M"}),
    ("markAsRead", {"messageId": "M", "chatRoomId": "R", "upTo": True}),
    ("editMessage", {"messageId": "M", "message": "forged"}),
    ("deleteMessage", {"messageId": "M", "reason": "because"}),
    ("sendMessage", {"replyTo": "M", "message": "What did they say?"}),  # in a room of one's own
]
OWN_ROOMS = {
    "test_user": ROOM,
    "doctor_456": {"receiverId": "nurse_001", "hospitalId": "hospital_001"},
    "doctor_002": {"receiverId": "nurse_002", "hospitalId": "hospital_002"},
    "admin_002": {"receiverId": "nurse_002", "hospitalId": "hospital_002"},
}
READS = ["/api/chat/rooms/R/messages/", "/api/chat/attachments/A/"]
ODD_IDS = ["%00", "x" * 500, "%ED%A0%80", "'", "%F0%9F%9A%91"]


async def a_conversation(server: ThreadServer) -> tuple[str, str]:
    """chatRoomId and messageId of something private."""
    async with server.phone("patient_123", "patient") as patient:
        made = (await patient.ask("sendMessage", **ROOM, message="private"))["data"]
        return made["chatRoomId"], made["messageId"]


def bare(frame: Frame, *ids: str) -> str:
    """The answer without what differs between any two answers."""
    text = re.sub(r'"(timestamp|requestId)": ?"[^"]*"|\'(timestamp|requestId)\': \'[^\']*\'', "", str(frame))
    for one in ids:
        text = text.replace(one, "ID")
    return text


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda who: who[0])
async def test_foreign_and_missing_objects_get_the_same_error_on_the_socket(
    server: ThreadServer, stranger: tuple[str, str, str | None]
) -> None:
    room_id, message_id = await a_conversation(server)
    async with server.phone(*stranger) as phone:
        for type_, fields in REQUESTS:
            fields = fields if type_ != "sendMessage" else {**OWN_ROOMS[stranger[0]], **fields}
            theirs = {"R": room_id, "M": message_id}
            real = await phone.ask(type_, **{k: theirs.get(str(v), v) for k, v in fields.items()})
            none = await phone.ask(type_, **{k: NOWHERE if v in theirs else v for k, v in fields.items()})
            is_same = bare(real, room_id, message_id) == bare(none, NOWHERE)
            note("rooms and messages of others, by socket", let_in=int(not is_same))
            assert real["type"] == "error"
            assert is_same, (real, none)
        assert not phone.heard("newMessage")


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda who: who[0])
async def test_foreign_and_missing_objects_get_the_same_error_over_http(
    server: ThreadServer, stranger: tuple[str, str, str | None]
) -> None:
    room_id, message_id = await a_conversation(server)
    owner, other = await client_of(server, "patient_123"), await client_of(server, stranger[0])
    async with owner, other:
        file = {"file": ("a.txt", b"private", "text/plain")}
        stored = await owner.post("/api/chat/attachments/", data={"chatRoomId": room_id}, files=file)
        attachment_id = stored.json()["url"].rstrip("/").rpartition("/")[2]
        assert (await owner.get(f"/api/chat/attachments/{attachment_id}/")).content == b"private"

        async def both(method: str, path: str, mine: str, **more: Any) -> None:
            real, none = [
                await other.request(method, path.replace("ID", one), **_filled(more, one))
                for one in (mine, NOWHERE)
            ]
            is_same = bare(real.json(), mine) == bare(none.json(), NOWHERE)
            note("rooms and messages of others, over HTTP", let_in=int(not is_same))
            assert real.status_code == none.status_code == 404, real.text
            assert is_same, (real.text, none.text)

        for path, one in zip(READS, (room_id, attachment_id), strict=True):
            await both("GET", path.replace("/R/", "/ID/").replace("/A/", "/ID/"), one)
        await both("POST", "/api/chat/attachments/", room_id, data={"chatRoomId": "ID"}, files=file)
        await both("POST", "/api/chat/messages/read/", message_id, json={"messageId": "ID"})
        await both("POST", "/api/chat/messages/edit/", message_id, json={"messageId": "ID", "message": "x"})
        await both("POST", "/api/chat/messages/delete/", message_id, json={"messageId": "ID", "reason": "x"})
        rooms = (await other.get("/api/chat/rooms/")).json()["rooms"]
        assert room_id not in str(rooms)
        assert (await other.get("/api/sync/?since=0")).json()["events"] == []


def _filled(more: dict[str, Any], one: str) -> dict[str, Any]:
    return {
        k: {a: one if b == "ID" else b for a, b in v.items()} if k in ("data", "json") else v
        for k, v in more.items()
    }


async def test_malformed_id_is_not_found(server: ThreadServer) -> None:
    async with await client_of(server, "patient_123") as client:
        for odd in ODD_IDS:
            for path in (f"/api/chat/rooms/{odd}/messages/", f"/api/chat/attachments/{odd}/"):
                answer = await client.get(path)
                assert answer.status_code in (400, 404), answer.text
        form = {"chatRoomId": "a\x00b"}
        answer = await client.post("/api/chat/attachments/", data=form, files={"file": ("a", b"x")})
        assert answer.status_code in (400, 404), answer.text


async def test_forged_sender_is_ignored(server: ThreadServer) -> None:
    forged = {
        "senderId": "doctor_456",
        "sender_id": "doctor_456",
        "userId": "doctor_456",
        "senderName": "Dr. Noor Vale",
        "senderRole": "doctor",
        "messageId": NOWHERE,
        "isRead": True,
        "readAt": "2026-01-01T00:00:00Z",
        "deletedAt": "2026-01-01T00:00:00Z",
    }
    async with server.phone("patient_123", "patient") as patient:
        await patient.send("sendMessage", **ROOM, **forged, message="it is I")
        data = (await patient.expect("newMessage"))["data"]
        own = {
            "senderId": "patient_123",
            "senderName": "Pat Meadow",
            "senderRole": "patient",
            "isRead": False,
            "deletedAt": None,
        }
        taken = {name: data[name] for name, value in own.items() if data[name] != value}
        note("forged senderId", rounds=len(own), let_in=len(taken))
        assert not taken
        assert data["messageId"] != NOWHERE


# The Origin of a page, the Host it asks, and whether it may.
ORIGINS: list[tuple[str | None, str | None, bool]] = [
    (None, None, True),
    ("http://127.0.0.1:PORT", None, True),
    ("https://hplus.example", None, True),
    ("https://evil.example", None, False),
    ("https://hplus.example.evil.example", None, False),
    ("null", None, False),
    ("http://[", None, False),
    ("https://evil.example", "evil.example", False),  # another name may lead here: DNS rebinding
]


async def test_foreign_origin_is_refused(server: ThreadServer, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["hplus.example", "127.0.0.1"]
    for origin, host, is_let_in in ORIGINS:
        origin = origin and origin.replace("PORT", str(server.port))
        lines = f"Host: {host or f'127.0.0.1:{server.port}'}\r\n" + (
            f"Origin: {origin}\r\n" if origin else ""
        )
        status = await status_of(server.port, f"GET /?userId=patient_123&role=patient HTTP/1.1\r\n{lines}")
        if is_let_in:
            assert status == 101, origin
        else:
            note("foreign Origin", let_in=int(status != 403))
            assert status == 403, origin


async def status_of(port: int, request: str) -> int:
    import asyncio

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    writer.write(f"{request}{upgrade}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
    line = await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS)
    writer.close()
    return int(line.split()[1])


async def client_of(server: ThreadServer, user_id: str) -> httpx.AsyncClient:
    token = (await sign_in(server, user_id))["access"]
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=server.url, headers=headers, timeout=PATIENCE_SECONDS)
