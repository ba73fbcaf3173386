"""A phone connects and two people talk, with the frames of the integration guide."""

from __future__ import annotations

from tests.servers import ThreadServer

ROOM = {"receiverId": "doctor_123", "hospitalId": "hospital_001"}
NAIVE = "2026-11-22T09:15:00.123456"  # Dart's toIso8601String(): local time, no zone


async def test_patient_writes_and_doctor_reads(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001", department="emergency") as doctor,
    ):
        await patient.send("joinChatRoom", **ROOM, timestamp=NAIVE)
        joined = await patient.expect("chatRoomJoined")
        room_id = joined["chatRoomId"]
        assert joined["receiverId"] == "doctor_123"
        assert joined["data"]["messages"] == []
        assert joined["data"]["peer"] == {
            "userId": "doctor_123",
            "name": "Dr. Dana Brook",
            "role": "doctor",
            "online": True,
        }

        await patient.send("sendMessage", **ROOM, message="Hello doctor", messageType="text", timestamp=NAIVE)
        echo = await patient.expect("newMessage")
        delivered = await patient.expect("messageDelivered")
        assert echo["seq"] < delivered["seq"]
        assert delivered["messageId"] == echo["data"]["messageId"]

        await doctor.send("joinChatRoom", receiverId="patient_123", hospitalId="hospital_001")
        message = await doctor.expect("newMessage")
        assert message["data"]["message"] == "Hello doctor"
        assert message["data"]["chatRoomId"] == room_id
        await doctor.send("markAsRead", messageId=message["data"]["messageId"])
        read = await patient.expect("messageRead")
        assert (read["messageId"], read["readerId"]) == (message["data"]["messageId"], "doctor_123")
        assert len(doctor.heard("newMessage")) == 1
        assert not patient.heard("error")
