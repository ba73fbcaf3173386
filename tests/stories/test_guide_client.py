"""A client written from the integration guide, unchanged: its frames, its reading, its habits."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import Any
from urllib.parse import quote

import pytest

from chat import consumers
from tests.guide_app import ChatScreen, GuideApp
from tests.servers import Endpoint, ThreadServer
from tests.waiting import PATIENCE_SECONDS

HOSPITAL = "hospital_001"
STAFF = ["doctor", "nurse", "paramedic", "admin", "receptionist", "technician", "pharmacist"]


async def test_each_of_eight_roles_connects_and_gets_its_identity(server: ThreadServer) -> None:
    """The connection examples of the guide; a patient names no hospital, staff do."""
    async with GuideApp(server, "patient_123", "patient") as patient:
        told = await patient.expect("connection_established")
        assert (told["userId"], told["role"], told["hospitalId"]) == ("patient_123", "patient", None)
        assert told["protocolVersion"] == 1
        nothing = {"unread": [], "activeEmergencies": [], "activeCall": None}
        assert told["data"] == {**nothing, "hasMoreEmergencies": False}
    for role in STAFF:
        async with GuideApp(
            server, f"new {role} é+&", role, HOSPITAL, department="cardiology", specialization="heart"
        ) as member:
            told = await member.expect("connection_established")
            assert (told["userId"], told["role"]) == (f"new {role} é+&", role)
            assert told["hospitalId"] == HOSPITAL


async def test_refused_handshake_gets_its_error_before_the_close(server: ThreadServer, settings: Any) -> None:
    settings.REFUSED_SOCKET_SECONDS = 0.2
    refused = [
        (("patient_123", "surgeon", None), "INVALID_ROLE", 4002),
        (("doctor_456", "doctor", None), "MISSING_HOSPITAL_ID", 4003),
        (("doctor_456", "nurse", HOSPITAL), "AUTHENTICATION_FAILED", 4001),
        (("doctor_456", "doctor", "hospital_999"), "HOSPITAL_NOT_FOUND", 4007),
    ]
    for who, code, close_code in refused:
        async with GuideApp(server, *who) as app:
            await app.join_chat_room("doctor_123", HOSPITAL)  # the guide's screen does not wait
            error = await app.expect("error")
            assert (error["code"], bool(error["message"])) == (code, True)
            assert await app.expect_close() == close_code
            assert [frame["type"] for frame in app.history] == ["error"]


async def raw_handshake(server: Endpoint, request_line: str) -> dict[str, Any]:
    """The first frame for a client that writes its request line by itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"{request_line}\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        assert head.startswith(b"HTTP/1.1 101"), head
        first, length = await asyncio.wait_for(reader.readexactly(2), PATIENCE_SECONDS)
        assert first == 0x81  # one whole text frame
        size = length if length < 126 else int.from_bytes(await reader.readexactly(2))
        frame: dict[str, Any] = json.loads(await reader.readexactly(size))
    finally:
        writer.close()
    return frame


@pytest.mark.parametrize("target", ["/?", "?", "/?x=&"])
async def test_url_without_slash_before_query_connects(server: ThreadServer, target: str) -> None:
    name = quote("пациент 1/2?", safe="")
    told = await raw_handshake(server, f"GET {target}userId={name}&role=patient HTTP/1.1")
    assert (told["type"], told["userId"]) == ("connection_established", "пациент 1/2?")


async def test_conversation_on_two_guide_screens(server: ThreadServer) -> None:
    async with (
        ChatScreen(server, "patient_123", "patient", None, receiver_id="doctor_123") as patient,
        ChatScreen(server, "doctor_123", "doctor", HOSPITAL, receiver_id="patient_123") as doctor,
    ):
        await doctor.expect("chatRoomJoined")
        await patient.send_typing_indicator("doctor_123", HOSPITAL, True)
        typing = await doctor.expect("typing")
        assert {key: typing[key] for key in ("userId", "senderId", "receiverId", "hospitalId")} == {
            "userId": "patient_123",
            "senderId": "patient_123",
            "receiverId": "doctor_123",
            "hospitalId": HOSPITAL,
        }
        assert typing["isTyping"] is True
        await patient.say("Hello doctor, I need help")
        # The guide clears its text field in code, so `onChanged` never says that the typing has ended.
        assert (await doctor.expect("typing"))["isTyping"] is False
        read = await patient.expect("messageRead")
        types = [frame["type"] for frame in patient.history]
        assert types.index("newMessage") < types.index("messageDelivered") < types.index("messageRead")

        first = doctor.messages[0]
        assert read["messageId"] == first.message_id
        await doctor.say("Where does it hurt?", reply_to=first.message_id)
        await patient.expect("newMessage", message="Where does it hurt?", replyTo=first.message_id)
        await doctor.expect("messageRead")
        picture = {"type": "image", "url": "https://example.com/image.jpg", "name": "a.jpg", "size": 1024000}
        await patient.say("Medical report image", message_type="image", attachments=[picture])
        shown = await doctor.expect("newMessage", messageType="image")
        assert shown["data"]["attachments"] == shown["attachments"] == [picture]
        await patient.say("My current location", message_type="location")
        await doctor.expect("newMessage", messageType="location", message="My current location")
        await doctor.say("I am on my way")
        await doctor.expect("messageRead")
        # Each screen shows its own messages too, once, in the same order, and no dialog ever opened.
        assert patient.shown == doctor.shown
        assert len(patient.shown) == 5
        assert not patient.heard("error")
        assert not doctor.heard("error")
        assert len(patient.heard("messageRead")) == 3


async def test_mark_as_read_of_own_message_or_twice_has_no_effect(server: ThreadServer) -> None:
    async with (
        GuideApp(server, "patient_123", "patient") as patient,
        GuideApp(server, "doctor_123", "doctor", HOSPITAL) as doctor,
        GuideApp(server, "nurse_001", "nurse", HOSPITAL) as nurse,
    ):
        await patient.send_chat_message("doctor_123", HOSPITAL, "Hello")
        echo = await patient.expect("newMessage")
        heard = await doctor.expect("newMessage")
        assert heard["data"]["clientTimestamp"] == echo["data"]["clientTimestamp"]
        message_id, room_id = echo["data"]["messageId"], echo["data"]["chatRoomId"]
        await patient.mark_message_as_read(message_id)
        await patient.mark_message_as_read(message_id, room_id)
        await nurse.mark_message_as_read(message_id)
        assert (await nurse.expect("error"))["code"] == "MESSAGE_NOT_FOUND"
        await patient.settle()
        await doctor.mark_message_as_read(message_id)
        await doctor.mark_message_as_read(message_id, "")
        await doctor.mark_message_as_read(message_id, room_id)
        read = await patient.expect("messageRead")
        assert (read["readerId"], read["chatRoomId"]) == ("doctor_123", room_id)
        await doctor.send_chat_message("patient_123", HOSPITAL, "Good morning")
        await patient.expect("newMessage", message="Good morning")
        assert len(patient.heard("messageRead")) == 1
        assert len(patient.heard("messageDelivered")) == 1
        assert not patient.heard("error")
        assert not doctor.heard("error")


async def test_typing_never_gets_an_error_reply(
    server: ThreadServer, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too fast, to nobody, to another patient, across hospitals: the guide would open a dialog for each."""
    monkeypatch.setattr(consumers, "TYPING_REPEAT_SECONDS", 10 * PATIENCE_SECONDS)
    async with (
        ChatScreen(server, "patient_123", "patient", None, receiver_id="doctor_123") as patient,
        ChatScreen(server, "doctor_123", "doctor", HOSPITAL, receiver_id="patient_123") as doctor,
        ChatScreen(server, "test_user", "patient", None, receiver_id="nurse_001") as other,
    ):
        await doctor.expect("chatRoomJoined")
        await other.expect("chatRoomJoined")
        for receiver, hospital in [
            ("nobody", HOSPITAL),
            ("test_user", HOSPITAL),
            ("doctor_002", HOSPITAL),
            ("patient_123", HOSPITAL),
            ("doctor_123", "nowhere"),
        ]:
            await patient.send_typing_indicator(receiver, hospital, True)
        for key in range(80):
            await patient.send_typing_indicator("doctor_123", HOSPITAL, key != 79)
        await patient.send("heartbeat")
        await patient.expect("heartbeat")
        settings.HPLUS_MESSAGES_PER_MINUTE = 0  # as if there were credit again
        await patient.say("Hello")
        await doctor.expect("newMessage")
        assert [frame["isTyping"] for frame in doctor.heard("typing")][:1] == [True]
        assert len(doctor.heard("typing")) <= 3
        assert not patient.heard("error")
        assert not other.heard("typing")


async def someone_else_gets_a_message(server: ThreadServer) -> None:
    """From another device of the patient; it is delivered later than what was sent before."""
    async with (
        GuideApp(server, "nurse_001", "nurse", HOSPITAL) as nurse,
        GuideApp(server, "patient_123", "patient") as tablet,
    ):
        await tablet.send_chat_message("nurse_001", HOSPITAL, "To somebody else")
        await nurse.expect("newMessage")
        await tablet.expect("messageDelivered", userId="nurse_001")


async def test_messages_missed_while_offline_arrive_once_and_in_order(server: ThreadServer) -> None:
    async with GuideApp(server, "patient_123", "patient") as patient:
        for number in range(5):
            await patient.send_chat_message("doctor_123", HOSPITAL, f"Message {number}")
        for number in range(5):
            await patient.expect("newMessage", message=f"Message {number}")
        await someone_else_gets_a_message(server)
        await patient.expect("messageDelivered", userId="nurse_001")
        assert len(patient.heard("messageDelivered")) == 1
        # A screen that is no chat gets them after a moment; each is delivered then, and only then.
        async with GuideApp(server, "doctor_123", "doctor", HOSPITAL) as dashboard:
            for number in range(5):
                assert (await dashboard.expect("newMessage"))["data"]["message"] == f"Message {number}"
            for _ in range(5):
                await patient.expect("messageDelivered")
            told = await dashboard.expect("connection_established")
            assert [room["count"] for room in told["data"]["unread"]] == [5]
            # Another screen is opened while the dashboard's socket stays: it shows them all the same.
            screen = ChatScreen(server, "doctor_123", "doctor", HOSPITAL, receiver_id="patient_123")
            async with screen:
                for _ in range(5):
                    await patient.expect("messageRead")
                assert screen.shown == [f"Message {number}" for number in range(5)]
                joined = await screen.expect("chatRoomJoined")
                assert joined["data"]["unreadCount"] == 5
                await screen.join_chat_room("patient_123", HOSPITAL)  # a second time changes nothing
                again = await screen.expect("chatRoomJoined")
                assert again["data"]["unreadCount"] == 0
                await patient.send_chat_message("doctor_123", HOSPITAL, "Still there?")
                await screen.expect("newMessage", message="Still there?")
                await patient.expect("messageRead")
                assert len(screen.shown) == 6
            assert len(dashboard.heard("newMessage")) == 6
        # And a screen opened tomorrow starts empty: nothing is unread.
        async with GuideApp(server, "doctor_123", "doctor", HOSPITAL) as tomorrow:
            assert (await tomorrow.expect("connection_established"))["data"]["unread"] == []
            await patient.send_chat_message("doctor_123", HOSPITAL, "Good night")
            await tomorrow.expect("newMessage", message="Good night")
            assert len(tomorrow.heard("newMessage")) == 1


async def test_send_without_join_joins_and_delivers_unread(server: ThreadServer) -> None:
    """The guide's MessageQueue empties itself on a new socket that has joined nothing."""
    async with GuideApp(server, "patient_123", "patient") as patient:
        await patient.send_chat_message("doctor_123", HOSPITAL, "First")
        await patient.send_chat_message("nurse_001", HOSPITAL, "For the nurse")
        await patient.send_chat_message("doctor_123", HOSPITAL, "Second")
        await patient.expect("newMessage", message="Second")
        async with GuideApp(server, "doctor_123", "doctor", HOSPITAL) as doctor:
            await doctor.send_chat_message("patient_123", HOSPITAL, "Queued in the tunnel")
            await doctor.expect("newMessage", message="Queued in the tunnel")
            texts = [frame["data"]["message"] for frame in doctor.heard("newMessage")]
            assert texts == ["First", "Second", "Queued in the tunnel"]


async def test_message_is_never_shown_in_another_patients_chat(server: ThreadServer) -> None:
    async with (
        ChatScreen(server, "patient_123", "patient", None, receiver_id="doctor_123") as one,
        ChatScreen(server, "test_user", "patient", None, receiver_id="doctor_123") as two,
        ChatScreen(server, "doctor_123", "doctor", HOSPITAL, receiver_id="patient_123") as with_one,
        ChatScreen(server, "doctor_123", "doctor", HOSPITAL, receiver_id="test_user") as with_two,
        GuideApp(server, "doctor_123", "doctor", HOSPITAL) as dashboard,
    ):
        for screen in (one, two, with_one, with_two):
            await screen.expect("chatRoomJoined")
        await dashboard.expect("connection_established")
        await one.say("From the first")
        await with_one.expect("newMessage", message="From the first")
        await two.say("From the second")
        await with_two.expect("newMessage", message="From the second")
        notice = await with_one.expect("notification", category="message")
        assert notice["data"]["message"] == notice["body"] == "From the second"
        assert notice["title"] == "Terry Test"
        notice = await with_two.expect("notification", category="message")
        assert notice["data"]["message"] == "From the first"
        await with_one.say("For the first")
        await one.expect("newMessage", message="For the first")
        await with_two.expect("notification", message="For the first")
        await dashboard.expect("newMessage", message="For the first")
        assert one.shown == with_one.shown == ["From the first", "For the first"]
        assert two.shown == with_two.shown == ["From the second"]
        assert len(dashboard.heard("newMessage")) == 3
        # A screen that goes over to the other conversation sees there what it was only notified of.
        await with_one.hang_up()
        await one.say("Are you there?")
        await with_two.expect("notification", message="Are you there?")
        await with_two.join_chat_room("patient_123", HOSPITAL)
        await with_two.expect("newMessage", message="Are you there?")
        assert len(one.heard("newMessage")) == 3


async def test_notification_alone_is_not_delivery(server: ThreadServer) -> None:
    async with (
        ChatScreen(server, "patient_123", "patient", None, receiver_id="doctor_123") as patient,
        ChatScreen(server, "doctor_123", "doctor", HOSPITAL, receiver_id="test_user") as elsewhere,
    ):
        await elsewhere.expect("chatRoomJoined")
        await patient.say("Hello")
        await elsewhere.expect("notification", message="Hello")
        await someone_else_gets_a_message(server)
        await patient.expect("messageDelivered", userId="nurse_001")
        assert len(patient.heard("messageDelivered")) == 1
        await elsewhere.join_chat_room("patient_123", HOSPITAL)
        delivered = await patient.expect("messageDelivered")
        assert (delivered["messageId"], delivered["userId"]) == (patient.messages[0].message_id, "doctor_123")
        await patient.expect("messageRead")


async def test_each_screen_of_both_sides_gets_a_message_once(server: ThreadServer) -> None:
    async with (
        GuideApp(server, "patient_123", "patient") as phone,
        GuideApp(server, "patient_123", "patient") as tablet,
        GuideApp(server, "doctor_123", "doctor", HOSPITAL) as ward,
        GuideApp(server, "doctor_123", "doctor", HOSPITAL) as office,
    ):
        everyone = (phone, tablet, ward, office)
        for screen in everyone:
            await screen.expect("connection_established")
        await phone.send_chat_message("doctor_123", HOSPITAL, "Hello")
        ids = {(await screen.expect("newMessage"))["data"]["messageId"] for screen in everyone}
        assert len(ids) == 1
        for screen in (phone, tablet):
            await screen.expect("messageDelivered")
        await ward.send_chat_message("patient_123", HOSPITAL, "Hello to you")
        for screen in everyone:
            await screen.expect("newMessage", message="Hello to you")
            assert len(screen.heard("newMessage")) == 2
        assert len(phone.heard("messageDelivered")) == len(tablet.heard("messageDelivered")) == 1
        assert len({frame["eventId"] for frame in phone.history if "eventId" in frame}) == 3


async def test_message_with_malformed_attachment_is_kept(server: ThreadServer) -> None:
    """The guide's attachments are a `Map<String, dynamic>`: name, type and size may be anything."""
    file = {"url": "https://example.com/a.jpg", "type": "image", "name": "a.jpg", "size": 7}
    long = "n" * 300
    async with (
        GuideApp(server, "patient_123", "patient") as patient,
        GuideApp(server, "doctor_123", "doctor", HOSPITAL) as doctor,
    ):
        await doctor.expect("connection_established")
        for sent, told in [
            ({"size": 12.5}, {"size": 12, "asSent": {"size": 12.5}}),
            ({"size": "1024"}, {"size": 1024, "asSent": {"size": "1024"}}),
            ({"size": "12 KB"}, {"size": 0, "asSent": {"size": "12 KB"}}),
            ({"size": -1}, {"size": 0, "asSent": {"size": -1}}),
            ({"size": True}, {"size": 0, "asSent": {"size": True}}),
            (
                {"size": 10**20, "name": 5},
                {"size": 0, "name": "5", "asSent": {"size": str(10**20), "name": 5}},
            ),
            ({"type": ["a"]}, {"type": '["a"]', "asSent": {"type": ["a"]}}),
            ({"name": long}, {"name": long[:255], "asSent": {"name": long}}),
            ({"url": "https://a.example/", "name": None}, {"url": "https://a.example/", "name": "file"}),
            ({"size": 8.0}, {"size": 8}),
        ]:
            await patient.send_chat_message("doctor_123", HOSPITAL, "", "image", "", [{**file, **sent}])
            heard = await doctor.expect("newMessage")
            assert heard["data"]["attachments"] == [{**file, **told}]
        assert not patient.heard("error")


async def test_frames_keep_guide_types_whatever_the_sender_sends(server: ThreadServer) -> None:
    """What goes out has the guide's types whatever came in."""
    async with (
        GuideApp(server, "patient_123", "patient") as patient,
        GuideApp(server, "doctor_123", "doctor", HOSPITAL) as doctor,
    ):
        await doctor.expect("connection_established")
        await patient.send(
            "sendMessage",
            data={"receiverId": "doctor_123", "hospitalId": HOSPITAL, "message": "under data"},
            message=None,
            messageType=None,
            replyTo=None,
            attachments=None,
            location=None,
            requestId="",
            timestamp=1732266000,
            somethingNew={"a": 1},
        )
        heard = await doctor.expect("newMessage", message="under data")
        assert heard["data"]["clientTimestamp"] == "1732266000"
        assert (heard["data"]["messageType"], heard["data"]["replyTo"]) == ("text", None)
        await patient.send_chat_message(
            "doctor_123",
            HOSPITAL,
            "",
            "file",
            "",
            [
                {"url": "https://example.com/reports/blood.pdf?x=1", "name": None, "size": None},
                {"url": "https://example.com/", "type": None, "size": 12.0, "more": [1, {"deep": None}]},
            ],
        )
        heard = await doctor.expect("newMessage", messageType="file")
        assert heard["data"]["attachments"] == [
            {
                "url": "https://example.com/reports/blood.pdf?x=1",
                "type": "file",
                "name": "blood.pdf",
                "size": 0,
            },
            {
                "url": "https://example.com/",
                "type": "file",
                "name": "file",
                "size": 12,
                "more": [1, {"deep": None}],
            },
        ]
        place = {"lat": 37, "lng": -122, "address": None}
        await patient.send(
            "sendMessage",
            receiverId="doctor_123",
            hospitalId=HOSPITAL,
            message="Here I am",
            messageType="location",
            location=place,
        )
        heard = await doctor.expect("newMessage", messageType="location")
        assert json.dumps(heard["location"]) == '{"lat": 37.0, "lng": -122.0, "address": null}'
        await doctor.send("joinChatRoom", receiverId="patient_123", hospitalId=HOSPITAL)
        joined = await doctor.expect("chatRoomJoined")
        assert json.dumps(joined["data"]["messages"][2]["location"]) == json.dumps(heard["location"])
        assert joined["data"]["messages"][1]["attachments"][0]["name"] == "blood.pdf"
