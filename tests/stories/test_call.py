"""A patient calls the doctor, who has two devices; they talk, a nurse joins, they hang up."""

from __future__ import annotations

from tests.servers import ThreadServer

OFFER, ANSWER = "v=0 the caller's offer", "v=0 the callee's answer"


async def test_call_rings_on_all_devices_and_is_accepted_on_one(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001", deviceId="phone") as phone,
        server.phone("doctor_123", "doctor", "hospital_001", deviceId="tablet") as tablet,
    ):
        # It rings on both of the doctor's devices.
        await patient.send("callInitiate", receiverId="doctor_123", callType="video", offer=OFFER)
        initiated = await patient.expect("callInitiated")
        call_id = initiated["callId"]
        assert (initiated["status"], initiated["ringTimeout"], initiated["iceServers"]) == ("ringing", 45, [])
        for device in (phone, tablet):
            ringing = await device.expect("callInitiate")
            assert {key: ringing[key] for key in ringing if key not in ("expiresAt", "data")} == {
                "type": "callInitiate",
                "callId": call_id,
                "callerId": "patient_123",
                "callerName": "Pat Meadow",
                "callerRole": "patient",
                "callType": "video",
                "offer": OFFER,
                "iceServers": [],
            }
        caller, callee = ringing["data"].pop("participants")
        assert ringing["data"] == {
            "callId": call_id,
            "callType": "video",
            "initiatorId": "patient_123",
            "hospitalId": "hospital_001",
            "emergencyId": None,
            "status": "ringing",
            "endReason": None,
            "startedAt": initiated["data"]["startedAt"],
            "answeredAt": None,
            "endedAt": None,
            "durationSeconds": None,
        }
        assert (caller["userId"], caller["role"], caller["status"]) == ("patient_123", "patient", "joined")
        assert callee == {
            "userId": "doctor_123",
            "role": "doctor",
            "status": "ringing",
            "joinedAt": None,
            "leftAt": None,
        }

        # The tablet takes it; the phone stops ringing and comes too late.
        await tablet.send("callAccept", data={"callId": call_id, "answer": ANSWER})
        accepted = await patient.expect("callAccept")
        assert (accepted["userId"], accepted["answer"]) == ("doctor_123", ANSWER)
        assert accepted["data"]["status"] == "active"
        elsewhere = await phone.expect("callAnsweredElsewhere")
        assert elsewhere == {
            "type": "callAnsweredElsewhere",
            "callId": call_id,
            "outcome": "accepted",
        }
        late = await phone.ask("callAccept", callId=call_id)
        assert (late["type"], late["code"]) == ("error", "CALL_INVALID_STATE")

        # Their devices find each other; nobody else hears of it.
        await patient.send(
            "callSignal",
            callId=call_id,
            targetUserId="doctor_123",
            signalType="iceCandidate",
            candidate={"candidate": "candidate:1 1 udp", "sdpMid": "0"},
        )
        assert await tablet.expect("callSignal") == {
            "type": "callSignal",
            "callId": call_id,
            "userId": "patient_123",
            "targetUserId": "doctor_123",
            "signalType": "iceCandidate",
            "sdp": None,
            "candidate": {"candidate": "candidate:1 1 udp", "sdpMid": "0"},
        }

        # The doctor hangs up, and both sides know how long it was.
        done = await tablet.ask("callEnd", callId=call_id, reason="all said")
        assert (done["type"], done["data"]) == ("ack", {"callId": call_id})
        for device in (patient, phone):
            ended = await device.expect("callEnd")
            assert (ended["userId"], ended["reason"]) == ("doctor_123", "all said")
            assert (ended["data"]["status"], ended["data"]["endReason"]) == ("ended", "all said")
            assert isinstance(ended["data"]["durationSeconds"], int)
            assert [one["status"] for one in ended["data"]["participants"]] == ["left", "left"]
        await tablet.echo()
        assert not tablet.heard("callEnd")
        assert not tablet.heard("callAnsweredElsewhere")
        assert not patient.heard("callSignal")
        assert not patient.heard("error")


async def test_unanswered_call_is_reported_to_a_phone_that_connects_later(server: ThreadServer) -> None:
    async with server.phone("doctor_123", "doctor", "hospital_001") as doctor:
        await doctor.send("callInitiate", receiverId="patient_123", callType="audio")
        call_id = (await doctor.expect("callInitiated"))["callId"]

        # A device that comes while it rings is told so: the offer is not kept for it.
        async with server.phone("patient_123", "patient") as patient:
            assert patient.established["data"]["activeCall"]["callId"] == call_id
            ringing = await patient.expect("callInitiate", callId=call_id)
            assert (ringing["callerName"], ringing["offer"]) == ("Dr. Dana Brook", None)
            await doctor.send("callEnd", callId=call_id)
            ended = await patient.expect("callEnd")
            assert ended["data"]["status"] == "cancelled"
            missed = await patient.expect("notification", category="missedCall")
            assert missed["data"]["callId"] == call_id
            assert missed["body"] == "Dr. Dana Brook called you."
        async with server.phone("patient_123", "patient", since=missed["seq"] - 1) as again:
            assert again.established["data"]["activeCall"] is None
            assert (await again.expect("notification"))["eventId"] == missed["eventId"]
            assert not again.heard("callInitiate")
