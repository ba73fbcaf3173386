"""Calls: ringing, joining, leaving, and signals between devices, which are not stored."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from django.conf import settings
from pydantic import Field, StringConstraints, model_validator

from calls.ice import ice_servers
from calls.models import Call, Participant
from hplus.protocol.wire import Event, Id, OptionalId, Request, Shape, missing

MAX_CALLEES = 7  # each device sends its media to every other
Description = str | dict[str, Any]  # SDP as text, or as a browser's RTCSessionDescription
SDP = "v=0 …"
CANDIDATE = {"candidate": "candidate:1 1 udp 2122260223 192.0.2.7 54400 typ host", "sdpMid": "0"}
ICE_SERVERS = [{"urls": ["turn:turn.example:3478"], "username": "1795343400:doctor_456", "credential": "…"}]
Reason = Annotated[str | None, StringConstraints(max_length=200)]


# Requests


class InitiateCall(Request):
    """Call one person (`receiverId`), or as staff up to seven (`participantIds`).

    The answer is `callInitiated` with the ICE servers; all devices of the callees get `callInitiate` and ring
    for `ringTimeout` seconds, also where another call rings there that is no more urgent (about an open
    emergency of the caller, then of staff, then of patients). `error` CALL_BUSY where all callees talk: they
    get a missed call. `error` RATE_LIMITED with `retryAfter` after three calls without an answer to the same
    person in ten minutes. A call to somebody who is calling you joins that call.
    """

    type = "callInitiate"
    receiver_id: Annotated[OptionalId, Field(examples=["doctor_456"])] = None
    participant_ids: Annotated[list[Id] | None, Field(max_length=MAX_CALLEES)] = None
    call_type: Literal["audio", "video"]
    hospital_id: OptionalId = None
    emergency_id: OptionalId = None
    offer: Annotated[Description | None, Field(repr=False, examples=[SDP])] = None

    @model_validator(mode="after")
    def _must_have_callees(self) -> Self:
        if not self.callee_ids:
            raise missing("receiverId")
        return self

    @property
    def callee_ids(self) -> list[str]:
        """The userIds that are called, each once, in the order given."""
        first = [self.receiver_id] if self.receiver_id else []
        return list(dict.fromkeys([*first, *(self.participant_ids or [])]))


class AcceptCall(Request):
    """Accept a call that rings, on this device, with the `answer` to its `offer` if there was one.

    The others in the call get `callAccept`, your other devices `callAnsweredElsewhere`. The first device to
    accept wins; `error` CALL_INVALID_STATE for the next one.
    """

    type = "callAccept"
    call_id: Id
    answer: Annotated[Description | None, Field(repr=False, examples=[SDP])] = None


class RejectCall(Request):
    """Decline a call that rings, once for all your devices.

    The others in the call get `callReject`, your other devices `callAnsweredElsewhere`. `error`
    CALL_INVALID_STATE where you are in the call already: send `callEnd`.
    """

    type = "callReject"
    call_id: Id
    reason: Reason = None


class EndCall(Request):
    """Hang up, or cancel a call of yours that still rings.

    Everybody in the call gets `callEnd`; with fewer than two people left the call is over. For a call that
    has ended already the `ack` comes all the same.
    """

    type = "callEnd"
    call_id: Id
    reason: Reason = None


class AddParticipant(Request):
    """Add a person to the call you are in. For staff only.

    Everybody in the call gets `callAddParticipant`, the person `callInitiate`. `error` CALL_BUSY where the
    person is in another call, CALL_INVALID_STATE where you are not in this one or it is full.
    """

    type = "callAddParticipant"
    call_id: Id
    participant_id: Annotated[Id, Field(examples=["nurse_001"])]


class SignalCall(Request):
    """Send an offer, an answer or an ICE candidate (WebRTC) to the device of another person in the call.

    The other person gets `callSignal` with the same fields; nothing of it is stored. `error` USER_NOT_FOUND
    where that person was never in the call, CALL_INVALID_STATE where one of you has left it; a candidate is
    then dropped without an error.
    """

    type = "callSignal"
    call_id: Id
    target_user_id: Annotated[Id, Field(examples=["doctor_456"])]
    signal_type: Annotated[Literal["offer", "answer", "iceCandidate"], Field(examples=["iceCandidate"])]
    sdp: Annotated[Description | None, Field(repr=False)] = None
    candidate: Annotated[Description | None, Field(repr=False, examples=[CANDIDATE])] = None


# Events


class ParticipantRecord(Shape):
    """A person in a call: ringing, joined, left, rejected, missed or busy."""

    user_id: str
    role: str
    status: Annotated[str, Field(examples=["ringing"])]
    joined_at: datetime | None
    left_at: datetime | None

    @classmethod
    def of(cls, participant: Participant) -> Self:
        return cls(
            user_id=participant.user_id,
            role=participant.user.role,
            status=participant.status,
            joined_at=participant.joined_at,
            left_at=participant.left_at,
        )


class CallRecord(Shape):
    """A call with everybody who is or was in it."""

    call_id: str
    call_type: Annotated[str, Field(examples=["video"])]
    initiator_id: Annotated[str, Field(examples=["patient_123"])]
    hospital_id: str | None
    emergency_id: str | None
    status: Annotated[str, Field(examples=["ringing"])]
    end_reason: str | None
    participants: list[ParticipantRecord]
    started_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    duration_seconds: int | None

    @classmethod
    def of(cls, call: Call) -> Self:
        return cls(
            call_id=call.call_id,
            call_type=call.call_type,
            initiator_id=call.initiator_id,
            hospital_id=call.hospital_id,
            emergency_id=call.emergency_id or None,
            status=call.status,
            end_reason=call.end_reason or None,
            participants=[ParticipantRecord.of(one) for one in call.people],
            started_at=call.started_at,
            answered_at=call.answered_at,
            ended_at=call.ended_at,
            duration_seconds=call.duration_seconds,
        )


class CallInitiated(Event):
    """Answers `callInitiate`: the devices of the callees ring for `ringTimeout` seconds.

    Use `iceServers` for your RTCPeerConnection.
    """

    type = "callInitiated"
    call_id: str
    status: Annotated[str, Field(examples=["ringing"])]
    ice_servers: Annotated[list[dict[str, Any]], Field(examples=[ICE_SERVERS])]
    ring_timeout: Annotated[int, Field(examples=[45])]  # seconds
    data: CallRecord

    @classmethod
    def of(cls, call: Call, user_id: str) -> Self:
        return cls(
            call_id=call.pk,
            status=call.status,
            ice_servers=ice_servers(user_id),
            ring_timeout=settings.HPLUS_RING_SECONDS,
            data=CallRecord.of(call),
        )


class CallEvent(Event):
    """An event for everybody in a call, except for the connection that caused it."""

    overtakes = True  # all of them, so that none comes before the one it ends or answers
    call_id: str
    caused_by: str = Field(default="", exclude=True)  # a connectionId

    def subject(self) -> str:
        return self.call_id

    def topic(self) -> str:
        return self.caused_by


class IncomingCall(CallEvent):
    """Somebody calls you: ring until `expiresAt`, then `callAccept` or `callReject`.

    A device that connects while the call rings gets it too, without `offer`.
    """

    type = "callInitiate"
    caller_id: Annotated[str, Field(examples=["patient_123"])]
    caller_name: Annotated[str, Field(examples=["Pat Meadow"])]
    caller_role: Annotated[str, Field(examples=["patient"])]
    call_type: Annotated[str, Field(examples=["video"])]
    offer: Annotated[Description | None, Field(repr=False, examples=[SDP])]
    ice_servers: Annotated[list[dict[str, Any]], Field(examples=[ICE_SERVERS])]
    expires_at: datetime
    data: CallRecord

    @classmethod
    def of(cls, callee: Participant, offer: Description | None = None) -> Self:
        """Return the event for a participant who rings; for a later device without the unstored offer."""
        caller = callee.invited_by
        assert caller is not None
        assert callee.ring_due_at is not None
        return cls(
            call_id=callee.call_id,
            caller_id=caller.pk,
            caller_name=caller.display_name,
            caller_role=caller.role,
            call_type=callee.call.call_type,
            offer=offer,
            ice_servers=ice_servers(callee.user_id),
            expires_at=callee.ring_due_at,
            data=CallRecord.of(callee.call),
        )


class CallAccepted(CallEvent):
    """A person has joined the call: apply `answer`. Without it, that person's device waits for your offer."""

    type = "callAccept"
    user_id: str
    answer: Annotated[Description | None, Field(repr=False, examples=[SDP])]
    data: CallRecord


class CallAnsweredElsewhere(CallEvent):
    """Another of your devices has accepted or declined the call: stop ringing."""

    type = "callAnsweredElsewhere"
    outcome: Literal["accepted", "rejected"]


class CallRejected(CallEvent):
    """A person has declined the call; `data.status` tells whether the call goes on."""

    type = "callReject"
    user_id: str
    reason: Annotated[str | None, Field(examples=["in surgery"])]
    data: CallRecord


class CallEnded(CallEvent):
    """A person has left the call, missed it or lost the connection; `data.status` says if it goes on."""

    type = "callEnd"
    user_id: str
    reason: str | None
    data: CallRecord


class ParticipantAdded(CallEvent):
    """A person is being added to the call, and rings; `callAccept` or `callReject` follows."""

    type = "callAddParticipant"
    user_id: str
    participant_id: Annotated[str, Field(examples=["nurse_001"])]
    data: CallRecord


class CallSignalled(CallEvent):
    """An offer, an answer or an ICE candidate of another person in the call, for your RTCPeerConnection.

    It comes to the device that takes part; before one does, to all of yours.
    """

    type = "callSignal"
    user_id: str
    target_user_id: Annotated[str, Field(examples=["patient_123"])]
    signal_type: Annotated[str, Field(examples=["iceCandidate"])]
    sdp: Annotated[Description | None, Field(repr=False)]
    candidate: Annotated[Description | None, Field(repr=False, examples=[CANDIDATE])]
    # The connection of the device that takes part; blank before one does.
    device: str = Field(default="", exclude=True)

    def topic(self) -> str:
        return self.device
