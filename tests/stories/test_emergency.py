"""An emergency from the call for help to the handover, with the frames of the integration guide."""

from __future__ import annotations

from tests.emergency import guide_frames
from tests.servers import ThreadServer


async def test_emergency_from_call_for_help_to_handover(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("technician_001", "technician", "hospital_001") as technician,
        server.phone("doctor_002", "doctor", "hospital_002") as elsewhere,
    ):
        await patient.send("emergencyRequest", data=guide_frames.create_emergency_request())
        created = await patient.expect("emergencyCreated")
        pending = await patient.expect("emergencyStatusUpdate", status="pending")
        alert = await crew.expect("emergencyAlert")
        assert guide_frames.alert(await doctor.expect("emergencyAlert")) == guide_frames.alert(alert)
        assert alert["data"].items() <= guide_frames.emergency_request(created["data"]).items()
        assert guide_frames.emergency_request(pending["data"]["emergency"]) == alert["data"]
        emergency_id = created["emergencyId"]
        assert (alert["data"]["requestedBy"], alert["data"]["requestedByRole"]) == ("patient_123", "patient")
        assert created["seq"] < pending["seq"]

        accept = guide_frames.respond(emergency_id, "accept", estimatedArrival="15 minutes")
        await crew.send("emergencyResponse", data=accept)
        for phone in (patient, crew, doctor):
            response = (await phone.expect("emergencyResponse"))["data"]
            guide_frames.emergency_request(response["emergency"])
            assert response["action"] == "accept"
            assert response["status"] == "accepted"
            assert response["responderId"] == response["assignedTo"] == "paramedic_456"
            assert response["responderName"] == "Kit Harbor"
            assert response["responderRole"] == response["assignedRole"] == "paramedic"
            assert response["estimatedArrival"] == "15 minutes"

        await doctor.send("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
        late = await doctor.expect_error("EMERGENCY_ALREADY_ASSIGNED")
        assert late["details"] == {"assignedTo": "paramedic_456", "assignedRole": "paramedic"}

        for phase in ("enRoute", "onScene", "atPatient"):
            update = guide_frames.update_status(emergency_id, "in_progress", phase=phase)
            await crew.send("emergencyStatusUpdate", data=update)
            heard = (await patient.expect("emergencyStatusUpdate", phase=phase))["data"]
            assert (heard["status"], heard["updatedBy"]) == ("in_progress", "paramedic_456")
        assert heard["previousStatus"] == "in_progress"
        assert sorted(heard["emergency"]["times"]) == [
            "atPatient", "eTimes.01", "eTimes.03", "eTimes.04", "eTimes.05", "eTimes.06", "eTimes.07",
            "enRoute", "onScene",
        ]  # fmt: skip

        vitals = {"heartRate": 118, "bp": "98/60", "oxygenSaturation": "92 %", "temp": 38.4}
        measured = guide_frames.update_status(emergency_id, "in_progress", vitals=vitals)
        await crew.send("emergencyStatusUpdate", data=measured)
        news2 = (await doctor.expect("emergencyStatusUpdate", vitals=vitals))["data"]["emergency"]["news2"]
        assert (news2["score"], news2["band"], news2["complete"]) == (7, "high", False)
        assert news2["parameters"]["respirationRate"] is None

        details = {"handedTo": "doctor_123"}
        done = guide_frames.update_status(
            emergency_id, "completed", phase="transferOfCare", completionDetails=details
        )
        await crew.send("emergencyStatusUpdate", data=done)
        for phone in (patient, crew, doctor):
            closed = (await phone.expect("emergencyStatusUpdate", status="completed"))["data"]
            assert closed["completionDetails"] == details
            assert guide_frames.emergency_request(closed["emergency"])["phase"] == "transferOfCare"

        for phone in (patient, technician, elsewhere):
            await phone.echo() if phone is not elsewhere else await phone.ask(
                "joinHospital", hospitalId="hospital_002"
            )
            assert not phone.heard("emergencyAlert")
        assert not elsewhere.heard("emergencyStatusUpdate")
        assert len(crew.heard("emergencyAlert")) == len(doctor.heard("emergencyAlert")) == 1
        assert not patient.heard("error")
        assert not crew.heard("error")


async def test_guide_test_emergency_reaches_staff_who_connect_later(server: ThreadServer) -> None:
    """No phone number, a patient who is not the one at the socket, nobody on duty."""
    async with server.phone("test_user", "patient") as bystander:
        await bystander.send("emergencyRequest", data=guide_frames.TEST_EMERGENCY)
        emergency_id = (await bystander.expect("emergencyCreated"))["emergencyId"]
    async with (
        server.phone("nurse_001", "nurse", "hospital_001") as first,
        server.phone("nurse_001", "nurse", "hospital_001") as second_screen,
    ):
        for screen in (first, second_screen):
            alert = guide_frames.alert(await screen.expect("emergencyAlert"))
            assert (alert["emergencyId"], alert["patientPhone"]) == (emergency_id, None)
            assert (alert["patientId"], alert["requestedBy"]) == ("patient_123", "test_user")
            assert [e["emergencyId"] for e in screen.established["data"]["activeEmergencies"]] == [
                emergency_id
            ]
        await first.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "reject"))
        assert len(first.heard("emergencyAlert")) == 1
    async with server.phone("nurse_001", "nurse", "hospital_001") as back:
        await back.echo()
        assert not back.heard("emergencyAlert"), "it is answered"
    async with server.phone("test_user", "patient") as bystander:
        await bystander.echo()
        assert not bystander.heard("emergencyAlert"), "a requester never gets an alert"
        assert bystander.established["data"]["activeEmergencies"][0]["emergencyId"] == emergency_id
