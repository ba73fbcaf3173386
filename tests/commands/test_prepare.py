"""`make run`: one process that makes what it needs, and keeps what is there."""

from __future__ import annotations

from pathlib import Path

from asgiref.sync import sync_to_async

from tests.servers import ProcessServer


async def test_first_start_seeds_the_demo_and_second_start_keeps_the_data(tmp_path: Path) -> None:
    storage = {"DATABASE_URL": f"sqlite:///{tmp_path / 'new' / 'hplus.sqlite3'}", "REDIS_URL": ""}
    server = ProcessServer(None, "--prepare", **storage)
    for users in ("19 people made", "0 people made, 19 were there"):
        await sync_to_async(server.start)()
        async with (
            server.phone("patient_123", "patient") as patient,
            server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        ):
            await patient.ask(
                "sendMessage", receiverId="doctor_123", hospitalId="hospital_001", message=users
            )
            await doctor.expect("newMessage", message=users)
            rooms = await patient.ask("joinChatRoom", receiverId="doctor_123", hospitalId="hospital_001")
            assert rooms["status"] == "ok"
            joined = await patient.expect("chatRoomJoined")
        await sync_to_async(server.terminate)()
        assert users in server.log.decode()
    assert [message["message"] for message in joined["data"]["messages"]] == [
        "19 people made",
        "0 people made, 19 were there",
    ]
