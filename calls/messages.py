"""The words of the calls. What devices offer each other passes through them and stays nowhere."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from django.conf import settings
from pydantic import Field, StringConstraints, model_validator

from calls.ice import ice_servers
from calls.models import Call, Participant
from hplus.protocol.wire import Event, Id, OptionalId, Request, Shape, missing

MOST_INVITED = 7  # in a mesh each device sends to every other
Description = str | dict[str, Any]  # SDP, bare or as a browser's RTCSessionDescription
SDP = "v=0 …"
CANDIDATE = {"candidate": "candidate:1 1 udp 2122260223 192.0.2.7 54400 typ host", "sdpMid": "0"}
ICE_SERVERS = [{"urls": ["turn:turn.example:3478"], "username": "1795343400:doctor_456", "credential": "…"}]
Reason = Annotated[str | None, StringConstraints(max_length=200)]


# What a client says


class InitiateCall(Request):
    """I call this person, or these people."""

    type = "callInitiate"
    receiver_id: Annotated[OptionalId, Field(examples=["doctor_456"])] = None
    participant_ids: Annotated[list[Id] | None, Field(max_length=MOST_INVITED)] = None
    call_type: Literal["audio", "video"]
    hospital_id: OptionalId = None
    emergency_id: OptionalId = None
    offer: Annotated[Description | None, Field(repr=False, examples=[SDP])] = None

    @model_validator(mode="after")
    def _calls_somebody(self) -> Self:
        if not self.callee_ids:
            raise missing("receiverId")
        return self

    @property
    def callee_ids(self) -> list[str]:
        """Everyone who is called, each once, in the order given."""
        first = [self.receiver_id] if self.receiver_id else []
        return list(dict.fromkeys([*first, *(self.participant_ids or [])]))


class AcceptCall(Request):
    """I take this call."""

    type = "callAccept"
    call_id: Id
    answer: Annotated[Description | None, Field(repr=False, examples=[SDP])] = None


class RejectCall(Request):
    """I do not take this call."""

    type = "callReject"
    call_id: Id
    reason: Reason = None


class EndCall(Request):
    """I hang up."""

    type = "callEnd"
    call_id: Id
    reason: Reason = None


class AddParticipant(Request):
    """Let this person join us."""

    type = "callAddParticipant"
    call_id: Id
    participant_id: Annotated[Id, Field(examples=["nurse_001"])]


class SignalCall(Request):
    """This is for that person's device."""

    type = "callSignal"
    call_id: Id
    target_user_id: Annotated[Id, Field(examples=["doctor_456"])]
    signal_type: Annotated[Literal["offer", "answer", "iceCandidate"], Field(examples=["iceCandidate"])]
    sdp: Annotated[Description | None, Field(repr=False)] = None
    candidate: Annotated[Description | None, Field(repr=False, examples=[CANDIDATE])] = None


# What HPlus says


class ParticipantRecord(Shape):
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
    """A call as everyone in it sees it."""

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
    """It rings there."""

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


class _CallNews(Event):
    """Something about a call for everyone in it, but not for the socket that caused it."""

    call_id: str
    asked_by: str = Field(default="", exclude=True)  # a connectionId

    def subject(self) -> str:
        return self.call_id

    def topic(self) -> str:
        return self.asked_by


class IncomingCall(_CallNews):
    """Somebody calls you."""

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
        """For a participant who rings; a device that comes later gets no offer, for it is not kept."""
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


class CallAccepted(_CallNews):
    """This person has joined the call. Without an answer, their device waits for your offer."""

    type = "callAccept"
    user_id: str
    answer: Annotated[Description | None, Field(repr=False, examples=[SDP])]
    data: CallRecord


class CallAnsweredElsewhere(_CallNews):
    """Stop ringing: another of your devices has dealt with it."""

    type = "callAnsweredElsewhere"
    outcome: Literal["accepted", "rejected"]


class CallRejected(_CallNews):
    """This person does not take the call; `data.status` tells whether it goes on."""

    type = "callReject"
    user_id: str
    reason: Annotated[str | None, Field(examples=["in surgery"])]
    data: CallRecord


class CallEnded(_CallNews):
    """This person is no longer in the call; `data.status` tells whether it goes on."""

    type = "callEnd"
    user_id: str
    reason: str | None
    data: CallRecord


class ParticipantAdded(_CallNews):
    """This person is being called into the call."""

    type = "callAddParticipant"
    user_id: str
    participant_id: Annotated[str, Field(examples=["nurse_001"])]
    data: CallRecord


class CallSignalled(_CallNews):
    """This comes from that person's device."""

    type = "callSignal"
    user_id: str
    target_user_id: Annotated[str, Field(examples=["patient_123"])]
    signal_type: Annotated[str, Field(examples=["iceCandidate"])]
    sdp: Annotated[Description | None, Field(repr=False)]
    candidate: Annotated[Description | None, Field(repr=False, examples=[CANDIDATE])]
