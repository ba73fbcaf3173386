"""A message of type location without coordinates says where its sender is, where that is known."""

from __future__ import annotations

from tests.location.positions import NAIVE, told
from tests.servers import ThreadServer

GUIDE = {
    "receiverId": "paramedic_456",
    "hospitalId": "hospital_001",
    "message": "My current location",
    "messageType": "location",
    "timestamp": NAIVE,
}


async def test_location_message_without_coordinates_takes_the_senders_position(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("patient_123", "patient") as map_screen,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
    ):
        await patient.send("sendMessage", **GUIDE)
        assert (await crew.expect("newMessage"))["data"]["location"] is None
        await told(crew, 10, 10)  # another's position is not the sender's
        await told(map_screen, 37, -122.5)
        await patient.send("sendMessage", **GUIDE, clientMessageId="here")
        message = await crew.expect("newMessage")
        assert message["data"]["location"] == {"lat": 37.0, "lng": -122.5, "address": None}

        await told(map_screen, 38, -122.5)
        repeated = await patient.ask("sendMessage", **GUIDE, clientMessageId="here")
        assert repeated["status"] == "duplicate"
        await patient.send("sendMessage", **GUIDE, location={"lat": 1, "lng": 2, "address": "Pier 1"})
        said = await crew.expect("newMessage")
        assert said["data"]["location"] == {"lat": 1.0, "lng": 2.0, "address": "Pier 1"}
        await patient.send("sendMessage", **{**GUIDE, "messageType": "text"})
        assert (await crew.expect("newMessage"))["data"]["location"] is None


async def test_location_message_ignores_a_stale_position(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
    ):
        await told(patient, timestamp="2026-01-01T00:00:00Z")
        await patient.send("sendMessage", **GUIDE)
        assert (await crew.expect("newMessage"))["data"]["location"] is None
