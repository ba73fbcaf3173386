"""Reading, editing, taking back, and looking back; on the socket as over HTTP."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.utils import timezone

from chat.models import Message, Revision
from hplus.audit.models import Record
from tests import dart
from tests.api import Api, refused
from tests.phone import Phone
from tests.servers import ThreadServer

HOSPITAL = "hospital_001"
TO_DOCTOR = {"receiverId": "doctor_123", "hospitalId": HOSPITAL}


async def send(phone: Phone, text: str, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = (await phone.ask("sendMessage", **{**TO_DOCTOR, "message": text, **more}))["data"]
    return made


async def test_sender_edits_within_15_minutes_only(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
        server.phone("admin_001", "admin", HOSPITAL) as admin,
        server.phone("nurse_001", "nurse", HOSPITAL) as stranger,
    ):
        made = await send(patient, "I am alergic")
        edit = {"messageId": made["messageId"], "message": "I am allergic to penicillin"}
        assert (await patient.ask("editMessage", **edit))["data"] == {
            "messageId": made["messageId"],
            "chatRoomId": made["chatRoomId"],
        }
        for phone in (patient, doctor):
            edited = await phone.expect("messageEdited")
            dart.read(edited)
            assert edited["data"]["message"] == "I am allergic to penicillin"
            assert edited["data"]["editedAt"] > edited["data"]["timestamp"]
        assert [row.text async for row in Revision.objects.all()] == ["I am alergic"]
        assert (await doctor.ask("editMessage", **edit))["code"] == "FORBIDDEN"
        assert (await admin.ask("editMessage", **edit))["code"] == "FORBIDDEN"
        assert (await stranger.ask("editMessage", **edit))["code"] == "MESSAGE_NOT_FOUND"
        rows = Message.objects.filter(message_id=made["messageId"])
        await rows.aupdate(sent_at=timezone.now() - timedelta(minutes=14, seconds=50))
        assert (await patient.ask("editMessage", **edit))["type"] == "ack"
        await rows.aupdate(sent_at=timezone.now() - timedelta(minutes=15, seconds=1))
        assert (await patient.ask("editMessage", **edit))["code"] == "INVALID_TRANSITION"
        await rows.aupdate(sent_at=timezone.now())
        await patient.ask("deleteMessage", messageId=made["messageId"])
        assert (await patient.ask("editMessage", **edit))["code"] == "INVALID_TRANSITION"


async def test_message_is_deleted_by_its_sender_or_by_an_admin_with_reason(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
        server.phone("admin_001", "admin", HOSPITAL) as admin,
        server.phone("admin_002", "admin", "hospital_002") as foreign_admin,
        server.phone("nurse_001", "nurse", HOSPITAL) as stranger,
    ):
        picture = [{"url": "https://example.com/a.jpg"}]
        first = await send(patient, "Mine", attachments=picture)
        second = await send(patient, "Moderated", location={"lat": 1, "lng": 2})
        third = await send(patient, "Stays")
        mine = {"messageId": first["messageId"]}
        assert (await doctor.ask("deleteMessage", **mine, reason="no"))["code"] == "FORBIDDEN"
        for phone in (stranger, foreign_admin):
            refusal = await phone.ask("deleteMessage", **mine, reason="no")
            assert refusal["code"] == "MESSAGE_NOT_FOUND"
        elsewhere = await patient.ask("deleteMessage", **mine, chatRoomId="elsewhere")
        assert elsewhere["code"] == "MESSAGE_NOT_FOUND"
        assert (await patient.ask("deleteMessage", **mine, chatRoomId=first["chatRoomId"]))["type"] == "ack"
        assert (await patient.ask("deleteMessage", **mine))["type"] == "ack"  # twice is once
        other = {"messageId": second["messageId"]}
        for reason in (None, "", "  "):
            refusal = await admin.ask("deleteMessage", **other, reason=reason)
            assert (refusal["code"], refusal["details"]["field"]) == ("VALIDATION_ERROR", "reason")
        assert (await admin.ask("deleteMessage", **other, reason="Names a third person"))["type"] == "ack"
        for phone in (patient, doctor):
            for made, by in ((first, "patient_123"), (second, "admin_001")):
                gone = await phone.expect("messageDeleted", messageId=made["messageId"])
                dart.read(gone)
                assert (gone["deletedBy"], gone["chatRoomId"]) == (by, made["chatRoomId"])
        await admin.echo()
        assert not admin.heard("messageDeleted")
        # Readers see nothing of it any more; the audit does. And it is not unread.
        async with server.phone("doctor_123", "doctor", HOSPITAL) as screen:
            assert screen.established["data"]["unread"] == [{"chatRoomId": third["chatRoomId"], "count": 1}]
            await screen.send("joinChatRoom", receiverId="patient_123", hospitalId=HOSPITAL)
            joined = await screen.expect("chatRoomJoined")
            shown = [(m["message"], m["attachments"], m["location"]) for m in joined["data"]["messages"]]
            assert shown == [("", None, None), ("", None, None), ("Stays", None, None)]
            await screen.expect("newMessage", message="Stays")
            assert len(screen.heard("newMessage")) == 1
        kept = await Message.objects.aget(message_id=second["messageId"])
        assert (kept.text, kept.delete_reason) == ("Moderated", "Names a third person")


async def test_reading_and_deleting_by_an_admin_is_recorded(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
        server.phone("admin_001", "admin", HOSPITAL) as admin,
        Api(server, "admin_001") as admin_http,
        Api(server, "doctor_123") as doctor_http,
    ):
        made = await send(patient, "Between us")
        room, mine = {"chatRoomId": made["chatRoomId"]}, {"messageId": made["messageId"]}
        file = {"file": ("a.txt", b"between us", "text/plain")}
        stored = (await doctor_http.post("chat/attachments/", data=room, files=file)).json()
        # Those who talk there leave no trace, and what was refused is none.
        await doctor.ask("getMessages", **room)
        await doctor_http.get(stored["url"])
        assert (await admin.ask("deleteMessage", **mine))["code"] == "VALIDATION_ERROR"
        await patient.ask("deleteMessage", messageId=(await send(patient, "Mine"))["messageId"])
        about_chat = Record.objects.filter(object_type__startswith="chat.").order_by("number")
        assert not await about_chat.aexists()
        await admin.ask("getMessages", **room)
        await admin_http.get(f"chat/rooms/{made['chatRoomId']}/messages/")
        await admin_http.get(stored["url"])
        for _ in range(2):
            await admin.ask("deleteMessage", **mine, reason="Names a third person")
        lines = [(line.actor_id, line.verb, line.object_type, line.hospital_id) async for line in about_chat]
        assert lines == [
            ("admin_001", "read", "chat.chatroom", HOSPITAL),
            ("admin_001", "read", "chat.chatroom", HOSPITAL),
            ("admin_001", "read", "chat.attachment", HOSPITAL),
            ("admin_001", "delete", "chat.message", HOSPITAL),
        ]
        assert "third person" not in str([line.details async for line in about_chat])


async def test_history_is_paged_and_marked_as_read_up_to_a_message(
    server: ThreadServer, settings: Any
) -> None:
    settings.HPLUS_MESSAGES_PER_MINUTE = 0
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", HOSPITAL) as stranger,
        server.phone("admin_001", "admin", HOSPITAL) as admin,
        server.phone("admin_002", "admin", "hospital_002") as foreign_admin,
        Api(server, "doctor_123") as doctor,
        Api(server, "nurse_001") as nurse,
    ):
        for number in range(60):
            made = await send(patient, f"Message {number}")
        room = {"chatRoomId": made["chatRoomId"]}

        async def page(**query: Any) -> dict[str, Any]:
            await patient.send("getMessages", **room, **query)
            history = await patient.expect("messageHistory")
            dart.read(history)
            answer = await doctor.get(f"chat/rooms/{room['chatRoomId']}/messages/", params=query)
            texts = [message["message"] for message in history["data"]["messages"]]
            assert [message["message"] for message in answer.json()["data"]["messages"]] == texts
            data: dict[str, Any] = history["data"]
            return {"texts": texts, "next": data["nextCursor"], "more": data["hasMore"]}

        last = await page()
        assert (last["texts"][0], last["texts"][-1], last["more"]) == ("Message 10", "Message 59", True)
        before = await page(before=last["next"])
        assert (before["texts"][0], before["texts"][-1]) == ("Message 0", "Message 9")
        assert (before["more"], before["next"]) == (False, None)
        first = await patient.ask("getMessages", **room, limit=100)
        assert first["status"] == "ok"
        everything = (await patient.expect("messageHistory"))["data"]["messages"]
        ids = [message["messageId"] for message in everything]
        assert len(ids) == 60
        after = await page(after=ids[9], limit=20)
        assert (after["texts"][0], after["texts"][-1], after["more"]) == ("Message 10", "Message 29", True)
        assert after["next"] == ids[29]
        assert (await page(after=after["next"], limit=100))["texts"][0] == "Message 30"
        assert (await page(after=ids[5], before=ids[8]))["texts"] == ["Message 6", "Message 7"]
        assert (await patient.ask("getMessages", **room, before="nothing"))["code"] == "MESSAGE_NOT_FOUND"
        # A room of others is as one that does not exist; the hospital's admin may look into it.
        for phone in (stranger, foreign_admin):
            assert (await phone.ask("getMessages", **room))["code"] == "CHAT_ROOM_NOT_FOUND"
        assert (await admin.ask("getMessages", **room))["type"] == "ack"
        for path in (room["chatRoomId"], "nothing", "%00", "x" * 200, "%ED%A0%80"):
            answer = await nurse.get(f"chat/rooms/{path}/messages/")
            assert answer.status_code in (400, 404), path
            assert answer.json()["code"] in ("CHAT_ROOM_NOT_FOUND", "VALIDATION_ERROR"), path
        refused(
            await doctor.get(f"chat/rooms/{room['chatRoomId']}/messages/?limit=101"), 400, "VALIDATION_ERROR"
        )

        # The receiver reads everything up to one message; the sender's own `upTo` reads nothing.
        await patient.ask("markAsRead", messageId=ids[59], upTo=True)
        answer = await doctor.post("chat/messages/read/", json={"messageId": ids[39], "upTo": True})
        assert answer.json()["status"] == "ok"
        for message_id in ids[:40]:
            await patient.expect("messageRead", messageId=message_id)
        [listed] = (await doctor.get("chat/rooms/")).json()["rooms"]
        assert (listed["unreadCount"], listed["lastMessage"]["message"]) == (20, "Message 59")
        assert listed["peer"] == {
            "userId": "patient_123",
            "name": "Pat Meadow",
            "role": "patient",
            "online": True,
        }
        assert (await nurse.get("chat/rooms/")).json() == {"rooms": []}
        refused(await nurse.post("chat/messages/read/", json={"messageId": ids[0]}), 404, "MESSAGE_NOT_FOUND")
        assert await Message.objects.filter(read_at=None).acount() == 20
        assert not await Message.objects.filter(read_at__isnull=False, delivered_at=None).aexists()


async def test_message_has_8_000_characters_at_most_and_a_page_stays_under_4_mb(
    server: ThreadServer, settings: Any
) -> None:
    """History full of the longest messages comes in more pages, none missing; also of older, longer ones."""
    settings.HPLUS_MESSAGES_PER_MINUTE = 0
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
    ):
        frame = {"type": "sendMessage", **TO_DOCTOR, "message": ""}
        longest = "\u00e9" * 8_000  # two bytes each
        await patient.send_text(json.dumps({**frame, "message": longest}, ensure_ascii=False))
        assert (await doctor.expect("newMessage"))["data"]["message"] == longest
        await patient.send_text(json.dumps({**frame, "message": longest + "x"}, ensure_ascii=False))
        assert (await patient.expect_error("VALIDATION_ERROR"))["details"]["field"] == "message"
        await patient.send_text(json.dumps({**frame, "message": "x" * 65_536}))
        await patient.expect_error("MESSAGE_TOO_LARGE")

        control = "\x01" * 7_900  # six characters each on the wire
        made = [await send(patient, f"{number} {control}") for number in range(99)]
        changed = await patient.ask("editMessage", messageId=made[0]["messageId"], message="0 " + "x" * 7_900)
        assert changed["type"] == "ack"
        older = Message.objects.filter(message_id=made[1]["messageId"])
        await older.aupdate(text="1 " + "x" * 60_000)  # of a time when only the frame had a limit
        room, seen, before = made[0]["chatRoomId"], [], None
        while not seen or before:
            await doctor.send("getMessages", chatRoomId=room, limit=100, before=before)
            data = (await doctor.expect("messageHistory"))["data"]
            dart.read({"type": "messageHistory", "chatRoomId": room, "data": data})
            assert 0 < len(json.dumps(data)) < 4_000_000
            seen = [message["message"].partition(" ")[0] for message in data["messages"]] + seen
            before = data["nextCursor"]
            assert data["hasMore"] is (before is not None)
        assert seen == [longest, *(str(number) for number in range(99))]
        await doctor.send("joinChatRoom", receiverId="patient_123", hospitalId=HOSPITAL)
        joined = (await doctor.expect("chatRoomJoined"))["data"]
        assert joined["messages"][-1]["messageId"] == made[-1]["messageId"]
        assert joined["hasMore"] is True
        await doctor.echo()
        assert doctor.close_code is None


async def test_edit_delete_and_read_over_http(server: ThreadServer) -> None:
    async with (
        Api(server, "patient_123") as patient,
        Api(server, "doctor_123") as doctor,
        server.phone("doctor_123", "doctor", HOSPITAL) as phone,
    ):
        sent = await patient.post("chat/messages/", json={**TO_DOCTOR, "message": "Over HTTP"})
        assert sent.status_code == 201
        message_id = sent.json()["data"]["messageId"]
        assert (await phone.expect("newMessage"))["data"]["message"] == "Over HTTP"
        change = {"messageId": message_id, "message": "Changed"}
        assert (await patient.post("chat/messages/edit/", json=change)).status_code == 200
        await phone.expect("messageEdited", message="Changed")
        refused(await doctor.post("chat/messages/edit/", json=change), 403, "FORBIDDEN")
        assert (
            await patient.post("chat/messages/delete/", json={"messageId": message_id})
        ).status_code == 200
        await phone.expect("messageDeleted", messageId=message_id)
        refused(
            await patient.post("chat/messages/", json={**TO_DOCTOR, "message": " "}), 400, "VALIDATION_ERROR"
        )
        refused(
            await patient.post(
                "chat/messages/", content=b"nonsense", headers={"Content-Type": "application/json"}
            ),
            400,
            "INVALID_JSON",
        )
        refused(
            await patient.post("chat/messages/", content=b"[]", headers={"Content-Type": "application/json"}),
            400,
            "INVALID_MESSAGE",
        )
        refused(
            await patient.post("chat/messages/", json={**TO_DOCTOR, "message": "a\x00"}), 400, "INVALID_JSON"
        )
