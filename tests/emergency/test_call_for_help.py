"""What a call for help may look like: nothing optional stops it, and what is required is named."""

from __future__ import annotations

from typing import Any

from emergency.models import Emergency
from tests.emergency import guide_frames
from tests.servers import ThreadServer

ODD = {
    "patientName": {"first": "Pat", "last": "Meadow"},
    "patientPhone": 15550100,
    "description": ["short of breath", 2],
    "vitals": [{"name": "pulse", "value": 90}],
    "location": {
        "lat": 37,
        "lng": -122.5,
        "address": {"street": "1 Elm St", "city": "Riverside", "zip": 94000},
    },
}


async def test_malformed_optional_field_does_not_stop_a_call_for_help(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        await patient.send("emergencyRequest", requestId=7, data=guide_frames.create_emergency_request(**ODD))
        created = await patient.expect("emergencyCreated")
        seen = guide_frames.alert(await nurse.expect("emergencyAlert"))
        assert seen.items() <= guide_frames.emergency_request(created["data"]).items()
        assert seen["patientName"] == "Pat, Meadow"
        assert seen["patientPhone"] == "15550100"
        assert seen["description"] == "short of breath, 2"
        assert seen["location"] == {"lat": 37.0, "lng": -122.5, "address": "1 Elm St, Riverside, 94000"}
        assert seen["vitals"] == {"asSent": ODD["vitals"]}
        assert seen["news2"] is None
        assert seen["warnings"] == [
            "patientName", "patientPhone", "location.address", "description", "vitals", "requestId",
        ]  # fmt: skip
        assert (await patient.expect("ack"))["requestId"] == "7"
    stored = await Emergency.objects.aget()
    assert {key: stored.original[key] for key in ODD} == ODD
    assert stored.client_timestamp == "2026-11-22T09:15:00.123456"


async def test_lone_surrogate_does_not_stop_a_call_for_help(server: ThreadServer) -> None:
    """Dart's `substring` cuts one in two, and its `jsonEncode` sends the half."""
    fields = guide_frames.create_emergency_request(
        description="Fell \ud83d", patientName="Pat\0", vitals={"p\ude91": "\ud83d"}
    )
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        await patient.send("emergencyRequest", data=fields)
        seen = guide_frames.alert(await nurse.expect("emergencyAlert"))
        assert (seen["description"], seen["patientName"]) == ("Fell \ufffd", "Pat\ufffd")
        assert seen["vitals"] == {"p\ufffd": "\ufffd"}
        assert seen["warnings"] == ["patientName", "description"]
        refusal = {"emergencyId": seen["emergencyId"], "action": "reject", "rejectionReason": "Busy \ud83d"}
        assert (await nurse.ask("emergencyResponse", data=refusal))["type"] == "ack"
        await patient.send("typing", receiverId="\ud83d", hospitalId="hospital_001", isTyping=True)
        await patient.expect_error("INVALID_JSON")


async def test_empty_vitals_object_is_kept(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as patient:
        await patient.send("emergencyRequest", data=guide_frames.create_emergency_request(vitals={}))
        seen = guide_frames.emergency_request((await patient.expect("emergencyCreated"))["data"])
        assert (seen["vitals"], seen["news2"], seen["warnings"]) == ({}, None, [])


BAD: list[tuple[str, dict[str, Any]]] = [
    ("patientId", {"patientId": None}),
    ("patientId", {"patientId": ""}),
    ("patientId", {"patientId": 5}),
    ("hospitalId", {"hospitalId": None}),
    ("location", {"location": None}),
    ("location.lat", {"location": {"lng": 1.5}}),
    ("location.lat", {"location": {"lat": 90.1, "lng": 1.5}}),
    ("location.lat", {"location": {"lat": True, "lng": 1.5}}),
    ("location.lng", {"location": {"lat": 1.5, "lng": "west"}}),
    ("location.lng", {"location": {"lat": 1.5, "lng": -180.5}}),
    ("condition", {"condition": "  "}),
    ("condition", {"condition": None}),
    ("priority", {"priority": "urgent"}),
    ("priority", {"priority": 1}),
]


async def test_invalid_required_field_is_named_in_the_error(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as patient:
        for field, change in BAD:
            refused = await patient.ask(
                "emergencyRequest", data=guide_frames.create_emergency_request(**change)
            )
            assert (refused["type"], refused["code"]) == ("error", "VALIDATION_ERROR"), change
            assert refused["details"]["field"] == field
    assert not await Emergency.objects.aexists()


async def test_flat_frame_with_upper_case_priority_is_accepted(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as patient:
        made = await patient.ask("emergencyRequest", **guide_frames.create_emergency_request(priority="HIGH"))
        created = await patient.expect("emergencyCreated")
        assert made["data"] == {"emergencyId": created["emergencyId"]}
        assert created["data"]["priority"] == "high"


async def test_repeated_call_for_help_is_stored_once_and_acknowledged_again(server: ThreadServer) -> None:
    request = guide_frames.create_emergency_request()
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        await patient.send("emergencyRequest", clientMessageId="c1", data=request)
        first = await patient.expect("ack")
        assert (first["status"], first["clientMessageId"]) == ("ok", "c1")
        await nurse.expect("emergencyAlert")
        again = {**request, "timestamp": "2026-11-22T09:16:00"}
        await patient.send("emergencyRequest", clientMessageId="c1", data=again)
        second = await patient.expect("ack")
        assert (second["status"], second["data"]) == ("duplicate", first["data"])
        assert len(patient.heard("emergencyCreated")) == 1
        await patient.send("emergencyRequest", clientMessageId="c1", data={**request, "condition": "Burn"})
        await patient.expect_error("IDEMPOTENCY_CONFLICT")
    async with server.phone("patient_123", "patient") as patient:
        await patient.send("emergencyRequest", clientMessageId="c1", data=request)
        created = await patient.expect("emergencyCreated")
        assert created["emergencyId"] == first["data"]["emergencyId"]
        await patient.expect("emergencyStatusUpdate", status="pending")
    async with server.phone("nurse_001", "nurse", "hospital_001") as nurse:
        await nurse.echo()
        assert len(nurse.heard("emergencyAlert")) == 1
    assert await Emergency.objects.acount() == 1


async def test_second_call_for_help_creates_another_emergency(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as patient:
        await patient.send("emergencyRequest", data=guide_frames.create_emergency_request())
        first = await patient.expect("emergencyCreated")
        await patient.send("emergencyRequest", data=guide_frames.create_emergency_request())
        second = await patient.expect("emergencyCreated")
        await patient.send(
            "emergencyRequest", data=guide_frames.create_emergency_request(patientId="a stranger")
        )
        third = await patient.expect("emergencyCreated")
    assert first["data"]["possibleDuplicateOf"] is None
    assert second["data"]["possibleDuplicateOf"] == first["emergencyId"]
    assert third["data"]["possibleDuplicateOf"] is None


async def test_call_for_help_is_never_rate_limited(server: ThreadServer, settings: Any) -> None:
    settings.HPLUS_MESSAGES_PER_MINUTE = 6
    async with server.phone("test_user", "patient") as patient:
        for _ in range(70):
            await patient.send("userOnline", status="busy")
        await patient.expect_error("RATE_LIMITED")
        made = await patient.ask("emergencyRequest", data=guide_frames.create_emergency_request())
        assert made["status"] == "ok"


async def test_call_for_help_permission_by_role_and_hospital(server: ThreadServer) -> None:
    call = guide_frames.create_emergency_request
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("receptionist_001", "receptionist", "hospital_001") as reception,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        assert (await patient.ask("emergencyRequest", data=call(hospitalId="hospital_002")))["type"] == "ack"
        for phone in (patient, reception):
            refused = await phone.ask("emergencyRequest", data=call(hospitalId="nowhere"))
            assert refused["code"] == "HOSPITAL_NOT_FOUND"
        refused = await reception.ask("emergencyRequest", data=call(hospitalId="hospital_002"))
        assert refused["code"] == "HOSPITAL_MISMATCH"
        claim = call(requestedBy="admin_001", requestedByRole="admin")
        assert (await reception.ask("emergencyRequest", data=claim))["type"] == "ack"
        seen = guide_frames.alert(await nurse.expect("emergencyAlert"))
        assert (seen["requestedBy"], seen["requestedByRole"]) == ("receptionist_001", "receptionist")
        await reception.echo()
        assert not reception.heard("emergencyAlert")
