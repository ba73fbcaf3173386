"""The chat alone at its own path, and everything on daphne's `runserver`."""

from __future__ import annotations

import pytest
import websockets

from hplus.accounts.models import User
from tests.guide_app import ChatScreen
from tests.servers import ProcessServer, ThreadServer
from tests.stories.test_guide_client import raw_handshake

HOSPITAL = "hospital_001"


async def test_chat_works_alone_at_its_own_path(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient", path="/ws/chat/") as patient,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
    ):
        await patient.send("heartbeat")
        await patient.expect("heartbeat")
        await patient.send("joinChatRoom", receiverId="doctor_123", hospitalId=HOSPITAL)
        await patient.expect("chatRoomJoined")
        await patient.send("sendMessage", receiverId="doctor_123", hospitalId=HOSPITAL, message="Hello")
        await doctor.expect("newMessage", message="Hello")
        await patient.expect("messageDelivered")
    for path in ("/ws/", "/nothing/", "/ws/chat"):
        with pytest.raises(websockets.InvalidStatus):
            await server.phone("patient_123", "patient", path=path).open()


class RunServer(ProcessServer):
    """`manage.py runserver`, as a developer starts it."""

    def __init__(self) -> None:
        super().__init__()
        self.arguments = ("runserver", "--noreload", f"127.0.0.1:{self.port}")

    def __exit__(self, *_: object) -> None:
        self.terminate()  # SIGTERM: a shell may have told everything in the background to ignore Ctrl-C


async def test_runserver_carries_a_conversation(users: dict[str, User]) -> None:
    with RunServer() as server:
        told = await raw_handshake(server, "GET /?userId=test_user&role=patient HTTP/1.1")
        assert told["type"] == "connection_established"
        refused = await server.phone("doctor_123", "surgeon", HOSPITAL).open()
        assert (await refused.expect("error"))["code"] == "INVALID_ROLE"
        assert await refused.expect_close() == 4002
        async with (
            ChatScreen(server, "patient_123", "patient", None, receiver_id="doctor_123") as patient,
            ChatScreen(server, "doctor_123", "doctor", HOSPITAL, receiver_id="patient_123") as doctor,
        ):
            await doctor.expect("chatRoomJoined")
            await patient.send_typing_indicator("doctor_123", HOSPITAL, True)
            await doctor.expect("typing", isTyping=True)
            await patient.say("Hello doctor")
            await patient.expect("messageDelivered")
            await patient.expect("messageRead")
            await doctor.say("Hello to you")
            await doctor.expect("messageRead")
            assert patient.shown == doctor.shown == ["Hello doctor", "Hello to you"]
            await patient.send_text("x" * 70_000)
            assert (await patient.expect("error"))["code"] == "MESSAGE_TOO_LARGE"
            await patient.send_text(b"binary")
            assert (await patient.expect("error"))["code"] == "INVALID_MESSAGE"
