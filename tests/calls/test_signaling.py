"""What devices tell each other: passed between the two, and stored nowhere."""

from __future__ import annotations

import logging

import pytest
from django.apps import apps

from tests.calls.test_ringing import ring
from tests.servers import ThreadServer

SECRET = "a=ice-pwd:only-for-the-other-device"


async def test_signals_are_relayed_between_the_two_and_nobody_else(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("doctor_002", "doctor", "hospital_002") as elsewhere,
    ):
        call_id = await ring(patient, "doctor_123")
        signal = {"callId": call_id, "targetUserId": "doctor_123", "signalType": "offer", "sdp": "v=0"}

        # Before the answer candidates already pass, in the order they were sent.
        for number in range(3):
            candidate = {"signalType": "iceCandidate", "candidate": {"sdpMLineIndex": number}}
            await patient.send("callSignal", data={**signal, **candidate})
        heard = [(await doctor.expect("callSignal"))["candidate"]["sdpMLineIndex"] for _ in range(3)]
        assert heard == [0, 1, 2]

        # A description may be a text or a browser's object.
        await doctor.send(
            "callSignal",
            callId=call_id,
            targetUserId="patient_123",
            signalType="answer",
            sdp={"type": "answer", "sdp": "v=0"},
        )
        assert (await patient.expect("callSignal"))["sdp"] == {"type": "answer", "sdp": "v=0"}

        for phone in (nurse, elsewhere):
            assert (await phone.ask("callSignal", **signal))["code"] == "CALL_NOT_FOUND"
        assert (await patient.ask("callSignal", **{**signal, "callId": "no-such-call"}))[
            "code"
        ] == "CALL_NOT_FOUND"
        to_nurse = await patient.ask("callSignal", **{**signal, "targetUserId": "nurse_001"})
        assert (to_nurse["code"], to_nurse["details"]) == ("USER_NOT_FOUND", {"field": "targetUserId"})
        unknown = await patient.ask("callSignal", **{**signal, "signalType": "smoke"})
        assert (unknown["code"], unknown["details"]["field"]) == ("VALIDATION_ERROR", "signalType")

        # After the end a late candidate is dropped quietly; a late offer is told so.
        await doctor.ask("callReject", callId=call_id)
        late = await patient.ask("callSignal", **{**signal, "signalType": "iceCandidate", "candidate": {}})
        assert late["type"] == "ack"
        assert (await patient.ask("callSignal", **signal))["code"] == "CALL_INVALID_STATE"
        for phone in (doctor, nurse):
            await phone.echo()
        assert len(doctor.heard("callSignal")) == 3
        assert not nurse.heard("callSignal")


async def test_signal_of_a_stranger_is_call_not_found(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("nurse_001", "nurse", "hospital_001") as stranger,
        server.phone("admin_002", "admin", "hospital_002") as elsewhere,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        call_id = await ring(patient, "doctor_123")
        for type_ in ("callAccept", "callReject", "callEnd"):
            for phone in (stranger, elsewhere):
                assert (await phone.ask(type_, callId=call_id))["code"] == "CALL_NOT_FOUND"
            # An admin of the hospital may look at it, so it is no secret that it is there.
            assert (await admin.ask(type_, callId=call_id))["code"] == "FORBIDDEN"
        await doctor.ask("callAccept", callId=call_id)
        assert (await patient.expect("callAccept"))["data"]["status"] == "active"


async def test_sdp_and_candidates_are_neither_stored_nor_logged(
    server: ThreadServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="hplus")
    caplog.set_level(logging.DEBUG, logger="calls")
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        call_id = await ring(patient, "doctor_123", offer=SECRET, clientMessageId="tap")
        await doctor.send("callAccept", callId=call_id, answer=SECRET)
        await patient.expect("callAccept", answer=SECRET)
        signal = {"callId": call_id, "targetUserId": "doctor_123"}
        for signal_type, content in (("offer", "sdp"), ("iceCandidate", "candidate")):
            await patient.send("callSignal", **signal, signalType=signal_type, **{content: SECRET})
            await doctor.expect("callSignal", **{content: SECRET})
        refused = await patient.ask("callSignal", **signal, signalType="offer", sdp=[SECRET])
        assert refused["code"] == "VALIDATION_ERROR"
        assert SECRET not in str(refused)
        await doctor.ask("callEnd", callId=call_id)
    stored = await in_database()
    assert call_id in stored
    assert "ice-pwd" not in stored
    assert "connected as" in caplog.text
    assert "ice-pwd" not in caplog.text


async def in_database() -> str:
    """Every row of every table, as text."""
    rows = []
    for model in apps.get_models():
        rows += [row async for row in model._base_manager.values()]
    return str(rows)


async def test_signal_goes_to_the_device_that_answered_alone(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as answering,
        server.phone("doctor_123", "doctor", "hospital_001") as other,
    ):
        call_id = await ring(patient, "doctor_123")
        signal = {"callId": call_id, "targetUserId": "doctor_123", "signalType": "iceCandidate"}
        await patient.send("callSignal", **signal, candidate={"sdpMLineIndex": 0})
        for phone in (answering, other):
            await phone.expect("callSignal", candidate={"sdpMLineIndex": 0})
        await answering.ask("callAccept", callId=call_id)
        await patient.send("callSignal", **signal, candidate={"sdpMLineIndex": 1})
        await answering.expect("callSignal", candidate={"sdpMLineIndex": 1})
        back = {"callId": call_id, "targetUserId": "patient_123", "signalType": "iceCandidate"}
        await answering.send("callSignal", **back, candidate={"sdpMLineIndex": 2})
        await patient.expect("callSignal", candidate={"sdpMLineIndex": 2})
        await other.echo()
        assert len(other.heard("callSignal")) == 1
