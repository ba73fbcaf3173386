"""Somebody is writing: who sees it, how often, and when it is over."""

from __future__ import annotations

from typing import Any

import pytest

from chat import consumers
from tests import dart
from tests.api import Api
from tests.phone import Phone
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS

HOSPITAL = "hospital_001"
TO_DOCTOR = {"receiverId": "doctor_123", "hospitalId": HOSPITAL}
TO_PATIENT = {"receiverId": "patient_123", "hospitalId": HOSPITAL}


def seen(phone: Phone) -> list[bool]:
    return [frame["isTyping"] for frame in phone.heard("typing")]


async def test_typing_is_shown_where_the_room_is_open(
    server: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "TYPING_REPEAT_SECONDS", 10 * PATIENCE_SECONDS)
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("patient_123", "patient") as tablet,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
        server.phone("doctor_123", "doctor", HOSPITAL) as dashboard,
        server.phone("doctor_123", "doctor", HOSPITAL) as elsewhere,
    ):
        room = (await doctor.ask("joinChatRoom", **TO_PATIENT))["data"]["chatRoomId"]
        await tablet.ask("joinChatRoom", **TO_DOCTOR)
        await elsewhere.ask("joinChatRoom", receiverId="test_user", hospitalId=HOSPITAL)
        for _ in range(10):
            await patient.send("typing", **TO_DOCTOR, isTyping=True)
        shown = await doctor.expect("typing")
        dart.read(shown)
        assert shown == {
            "type": "typing",
            "userId": "patient_123",
            "senderId": "patient_123",
            **TO_DOCTOR,
            "chatRoomId": room,
            "isTyping": True,
            "expiresIn": 10,
        }
        for _ in range(3):
            await patient.send("typing", data={**TO_DOCTOR, "isTyping": False})
        await doctor.expect("typing", isTyping=False)
        await patient.send("sendMessage", **TO_DOCTOR, message="That was to be seen")
        for phone in (doctor, dashboard):
            await phone.expect("newMessage")
        await elsewhere.expect("notification")
        assert seen(doctor) == [True, False]
        assert not [*seen(patient), *seen(tablet), *seen(dashboard), *seen(elsewhere)]


async def test_message_from_any_screen_ends_typing(server: ThreadServer, settings: Any) -> None:
    settings.TYPING_SECONDS = 10 * PATIENCE_SECONDS
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("patient_123", "patient") as tablet,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
        server.phone("nurse_001", "nurse", HOSPITAL) as nurse,
        Api(server, "patient_123") as http,
    ):
        for phone in (doctor, nurse):
            await phone.ask("joinChatRoom", **TO_PATIENT)
        to_nurse = {**TO_DOCTOR, "receiverId": "nurse_001"}
        await patient.send("typing", **to_nurse)
        await nurse.expect("typing", isTyping=True)
        for number in range(3):
            await patient.send("typing", **TO_DOCTOR)
            await doctor.expect("typing", isTyping=True)
            hello = {**TO_DOCTOR, "message": f"Message {number}"}
            if number == 0:
                await patient.send("sendMessage", **hello)
            elif number == 1:
                await tablet.send("sendMessage", **hello)
            else:
                await http.post("chat/messages/", json=hello)
            await doctor.expect("typing", isTyping=False)
            # At once begun again: it is shown, and not taken back by what came before.
            await patient.send("typing", **TO_DOCTOR)
            await doctor.expect("typing", isTyping=True)
            await patient.send("typing", **TO_DOCTOR, isTyping=False)
            await doctor.expect("typing", isTyping=False)
        await patient.echo()
        await doctor.echo()
        assert seen(doctor) == [True, False] * 6
        assert seen(nurse) == [True]  # another conversation goes on


async def test_typing_ends_with_the_connection_and_after_its_time(
    server: ThreadServer, settings: Any
) -> None:
    async with server.phone("doctor_123", "doctor", HOSPITAL) as doctor:
        await doctor.ask("joinChatRoom", **TO_PATIENT)
        for leaves_cleanly in (True, False):
            patient = await server.phone("patient_123", "patient").open()
            await patient.send("typing", **TO_DOCTOR)
            await doctor.expect("typing", isTyping=True)
            await (patient.hang_up() if leaves_cleanly else patient.vanish())
            await doctor.expect("typing", isTyping=False)
        settings.TYPING_SECONDS = 0.3
        async with server.phone("patient_123", "patient") as patient:
            await patient.send("typing", **TO_DOCTOR)
            await doctor.expect("typing", isTyping=True)
            await doctor.expect("typing", isTyping=False)
            await patient.echo()
        assert seen(doctor) == [True, False] * 3
