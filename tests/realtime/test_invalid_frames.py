"""Whatever a client sends gets its coded error, and the socket stays open."""

from __future__ import annotations

import json
from typing import Any

import pytest
import websockets

from tests import dart
from tests.servers import ThreadServer

HOSPITAL = "hospital_001"
ROOM = {"receiverId": "doctor_123", "hospitalId": HOSPITAL}


def message(**fields: Any) -> str:
    return json.dumps({"type": "sendMessage", **ROOM, "message": "Hello", **fields})


def field(name: str, **fields: Any) -> tuple[str, str, str]:
    return message(**fields), "VALIDATION_ERROR", name


# The frame, the code, and the field that `details` names.
WRONG: list[tuple[str | bytes, str, str | None]] = [
    ("", "INVALID_JSON", None),
    ("nonsense", "INVALID_JSON", None),
    ('{"type":"heartbeat"', "INVALID_JSON", None),
    ('{"type":"heartbeat"}{}', "INVALID_JSON", None),
    ('{"type":"heartbeat","timestamp":NaN}', "INVALID_JSON", None),
    ('{"type":"heartbeat","timestamp":-Infinity}', "INVALID_JSON", None),
    ('{"type":"heartbeat","timestamp":1e999}', "INVALID_JSON", None),
    ('{"type":"heartbeat","timestamp":' + "9" * 5000 + "}", "INVALID_JSON", None),
    ('{"type":"heartbeat","type":"logout"}', "INVALID_JSON", None),
    ('{"type":"heartbeat","timestamp":"\\u0000"}', "INVALID_JSON", None),
    ('{"type":"heartbeat","timestamp":"\\ud800"}', "INVALID_JSON", None),
    ('{"type":"heartbeat","data":' + "[" * 5000 + "]" * 5000 + "}", "INVALID_JSON", None),
    ('{"type":"heartbeat","data":' + "[" * 40 + "]" * 40 + "}", "INVALID_JSON", None),
    ("[]", "INVALID_MESSAGE", None),
    ('"heartbeat"', "INVALID_MESSAGE", None),
    ("null", "INVALID_MESSAGE", None),
    ("{}", "INVALID_MESSAGE", "type"),
    ('{"type":null}', "INVALID_MESSAGE", "type"),
    ('{"type":7}', "INVALID_MESSAGE", "type"),
    ('{"data":{"type":"heartbeat"}}', "INVALID_MESSAGE", "type"),
    (b'{"type":"heartbeat"}', "INVALID_MESSAGE", None),
    ('{"type":"sendMesage"}', "UNKNOWN_TYPE", "type"),
    ('{"type":"newMessage"}', "UNKNOWN_TYPE", "type"),
    (message(message="é" * 33_000), "MESSAGE_TOO_LARGE", None),
    ("x" * 70_000, "MESSAGE_TOO_LARGE", None),
    field("receiverId", receiverId=None),
    field("receiverId", receiverId=""),
    field("receiverId", receiverId=123),
    field("receiverId", receiverId="x" * 151),
    field("hospitalId", hospitalId=["hospital_001"]),
    field("message", message=None),
    field("message", message="   "),
    field("message", message={"text": "Hello"}),
    field("messageType", messageType="hologram"),
    field("priority", priority="very"),
    field("replyTo", replyTo=5),
    field("attachments", attachments="image.jpg"),
    field("attachments.0", attachments=["image.jpg"]),
    field("attachments.0.url", attachments=[{"name": "image.jpg"}]),
    field("attachments.1.url", attachments=[{"url": "https://files.example/x"}, {"url": "", "size": 1}]),
    field("attachments", attachments=[{"url": "https://files.example/x"}] * 21),
    field("location.lat", location={"lat": 91, "lng": 0}),
    field("location.lng", location={"lat": 0}),
    field("clientMessageId", clientMessageId="x" * 65),
    field("clientMessageId", clientMessageId=7),
    field("requestId", requestId=7),
    ('{"type":"joinChatRoom","hospitalId":"hospital_001"}', "VALIDATION_ERROR", "receiverId"),
    ('{"type":"joinChatRoom","receiverId":"doctor_123"}', "VALIDATION_ERROR", "hospitalId"),
    ('{"type":"joinChatRoom","data":"doctor_123"}', "VALIDATION_ERROR", "receiverId"),
    ('{"type":"joinHospital"}', "VALIDATION_ERROR", "hospitalId"),
    ('{"type":"markAsRead"}', "VALIDATION_ERROR", "messageId"),
    ('{"type":"markAsRead","messageId":"x","upTo":"perhaps"}', "VALIDATION_ERROR", "upTo"),
    ('{"type":"deleteMessage"}', "VALIDATION_ERROR", "messageId"),
    ('{"type":"editMessage","messageId":"x"}', "VALIDATION_ERROR", "message"),
    ('{"type":"editMessage","messageId":"x","message":" "}', "VALIDATION_ERROR", "message"),
    ('{"type":"getMessages","chatRoomId":"x","limit":101}', "VALIDATION_ERROR", "limit"),
    ('{"type":"getMessages","chatRoomId":"x","limit":0}', "VALIDATION_ERROR", "limit"),
    ('{"type":"typing","isTyping":true}', "VALIDATION_ERROR", "receiverId"),
    ('{"type":"sync"}', "VALIDATION_ERROR", "since"),
    ('{"type":"sync","since":-1}', "VALIDATION_ERROR", "since"),
    ('{"type":"sync","since":1e30}', "VALIDATION_ERROR", "since"),
    ('{"type":"sync","since":99999999999999999999}', "VALIDATION_ERROR", "since"),
    ('{"type":"ack","seq":"three"}', "VALIDATION_ERROR", "seq"),
    ('{"type":"login"}', "VALIDATION_ERROR", "token"),
    ('{"type":"login","token":""}', "VALIDATION_ERROR", "token"),
    ('{"type":"userOnline","status":"asleep"}', "VALIDATION_ERROR", "status"),
    ('{"type":"logout","allDevices":"perhaps"}', "VALIDATION_ERROR", "allDevices"),
    (message(receiverId="nobody"), "USER_NOT_FOUND", None),
    (message(hospitalId="nowhere"), "HOSPITAL_NOT_FOUND", None),
    (message(receiverId="patient_123"), "VALIDATION_ERROR", "receiverId"),
    (message(replyTo="nothing"), "MESSAGE_NOT_FOUND", "replyTo"),
    ('{"type":"markAsRead","messageId":"nothing"}', "MESSAGE_NOT_FOUND", "messageId"),
    ('{"type":"deleteMessage","messageId":"nothing"}', "MESSAGE_NOT_FOUND", "messageId"),
    ('{"type":"editMessage","messageId":"nothing","message":"x"}', "MESSAGE_NOT_FOUND", "messageId"),
    ('{"type":"getMessages","chatRoomId":"nothing"}', "CHAT_ROOM_NOT_FOUND", None),
]


async def test_each_invalid_frame_gets_its_code(server: ThreadServer, settings: Any) -> None:
    settings.HPLUS_MESSAGES_PER_MINUTE = 0
    async with server.phone("patient_123", "patient") as phone:
        for text, code, name in WRONG:
            shown = text[:100]
            await phone.send_text(text)
            error = await phone.expect("error")
            dart.read(error)
            assert (error["code"], error["details"].get("field")) == (code, name), shown
            assert "Traceback" not in json.dumps(error), shown
        assert len(phone.heard("error")) == len(WRONG)
        # Two answer without an error because the guide's client would open a dialog for it.
        await phone.send("ack", seq=10**6)
        await phone.send("typing", receiverId="nobody", hospitalId=HOSPITAL, isTyping=True)
        await phone.echo()
        assert len(phone.heard("error")) == len(WRONG)
        # And after all that the socket works.
        await phone.send("sendMessage", **ROOM, message="Hello")
        await phone.expect("newMessage", message="Hello")


async def test_error_and_ack_name_the_request_they_answer(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as phone:
        for asked in ({"requestId": "q1"}, {"data": {"requestId": "q1"}}):
            await phone.send("joinHospital", **asked)
            error = await phone.expect("error")
            assert (error["requestType"], error["requestId"]) == ("joinHospital", "q1")
        await phone.send("nonsense", requestId="q2")
        error = await phone.expect("error")
        assert (error["requestType"], error["requestId"]) == ("nonsense", "q2")
        await phone.send(
            "joinHospital", data={"hospitalId": "nowhere", "requestId": "q3"}, hospitalId=HOSPITAL
        )
        ack = await phone.expect("ack")
        assert (ack["requestType"], ack["requestId"], ack["status"]) == ("joinHospital", "q3", "ok")
        assert (await phone.expect("hospitalJoined"))["hospitalId"] == HOSPITAL  # flat wins
        await phone.send("heartbeat", timestamp="2024-01-01T12:00:00.000Z", requestId="q4")
        assert (await phone.expect("heartbeat"))["timestamp"] == "2024-01-01T12:00:00.000Z"
        assert (await phone.expect("ack", requestId="q4"))["requestType"] == "heartbeat"
        await phone.send("heartbeat", requestId=" ")
        beat = await phone.expect("heartbeat")
        assert (beat["timestamp"], set(beat)) == (None, {"type", "timestamp", "serverTime"})
        await phone.echo()
        assert len(phone.heard("ack")) == 3


async def test_frame_over_the_read_limit_closes_with_1009(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as phone:
        try:
            await phone.send_text("x" * 2_000_000)
        except websockets.ConnectionClosed:
            pytest.fail("the close came before the frame was sent")
        assert await phone.expect_close() == 1009
    async with server.phone("patient_123", "patient"):
        pass
