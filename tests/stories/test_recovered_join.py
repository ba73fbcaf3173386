"""Who goes on where it left off is sent nothing a second time, also on joining a room."""

from __future__ import annotations

from tests.servers import ThreadServer

TO_DOCTOR = {"receiverId": "doctor_123", "hospitalId": "hospital_001"}
TO_PATIENT = {"receiverId": "patient_123", "hospitalId": "hospital_001"}


async def test_join_after_recovery_sends_no_unread_message_again(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as patient:
        async with server.phone("doctor_123", "doctor", "hospital_001") as doctor:
            epoch = doctor.established["epoch"]
            await patient.ask("sendMessage", **TO_DOCTOR, message="before")
            had = (await doctor.expect("newMessage"))["seq"]
        await patient.ask("sendMessage", **TO_DOCTOR, message="meanwhile")
    cursor = {"since": had, "epoch": epoch}
    async with server.phone("doctor_123", "doctor", "hospital_001", **cursor) as again:
        assert again.established["recovered"]
        await again.expect("newMessage", message="meanwhile")
        await again.send("joinChatRoom", **TO_PATIENT)
        joined = (await again.expect("chatRoomJoined"))["data"]
        assert [message["message"] for message in joined["messages"]] == ["before", "meanwhile"]
        await again.ask("sendMessage", **TO_PATIENT, message="an answer")
        await again.echo()
        texts = [frame["message"] for frame in again.heard("newMessage")]
        assert texts == ["meanwhile", "an answer"]


async def test_join_without_recovery_sends_unread_messages(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as patient:
        await patient.ask("sendMessage", **TO_DOCTOR, message="before")
    async with server.phone("doctor_123", "doctor", "hospital_001", since=1, epoch="another") as doctor:
        assert not doctor.established["recovered"]
        await doctor.send("joinChatRoom", **TO_PATIENT)
        await doctor.expect("newMessage", message="before")
