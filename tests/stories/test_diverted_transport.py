"""A crew with the patient on board is asked to go elsewhere: the emergency stays with that crew."""

from __future__ import annotations

import pytest

from emergency.models import Emergency
from tests.emergency import guide_frames
from tests.servers import ThreadServer


@pytest.mark.parametrize("phase", ["atPatient", "transporting", "atDestination"])
async def test_transfer_with_the_patient_is_refused(server: ThreadServer, phase: str) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("admin_001", "admin", "hospital_001") as admin,
        server.phone("doctor_002", "doctor", "hospital_002") as elsewhere,
    ):
        asked = await patient.ask("emergencyRequest", data=guide_frames.create_emergency_request())
        emergency_id = asked["data"]["emergencyId"]
        await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
        reached = guide_frames.update_status(emergency_id, "in_progress", phase=phase)
        await crew.ask("emergencyStatusUpdate", data=reached)
        request = {"emergencyId": emergency_id, "toHospitalId": "hospital_002", "reason": "no beds"}
        for phone in (crew, admin):
            refused = await phone.ask("emergencyTransfer", **request)
            assert (refused["code"], refused["details"]) == (
                "INVALID_TRANSITION",
                {"status": "in_progress", "phase": phase},
            )
        row = await Emergency.objects.aget()
        assert (row.hospital_id, row.assigned_to_id, row.phase) == ("hospital_001", "paramedic_456", phase)
        details = guide_frames.update_status(emergency_id, "in_progress", notes="diverted to the other one")
        assert (await crew.ask("emergencyStatusUpdate", data=details))["type"] == "ack"
        await elsewhere.ask("joinHospital", hospitalId="hospital_002")
        assert not elsewhere.heard("emergencyAlert")


async def test_transfer_before_the_patient_is_reached_is_done(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("doctor_002", "doctor", "hospital_002") as elsewhere,
    ):
        asked = await patient.ask("emergencyRequest", data=guide_frames.create_emergency_request())
        emergency_id = asked["data"]["emergencyId"]
        await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
        arrived = guide_frames.update_status(emergency_id, "in_progress", phase="onScene")
        await crew.ask("emergencyStatusUpdate", data=arrived)
        request = {"emergencyId": emergency_id, "toHospitalId": "hospital_002", "reason": "closer"}
        assert (await crew.ask("emergencyTransfer", **request))["type"] == "ack"
        guide_frames.alert(await elsewhere.expect("emergencyAlert", emergencyId=emergency_id))
