"""The table of requests on the socket: what each role hears about what is its own or its hospital's.

E C N R M stand for an emergency, a call, a notice, a room and a message; U for their owner, P for who takes
part in them with the owner; H for the hospital they are in, O for the hospital of who asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Outcomes = dict[str, str]  # by role, "*" for the others: a code of refusal, "ok" or "quiet"
OK, FORBIDDEN = {"*": "ok"}, {"*": "FORBIDDEN"}
STAFF_ONLY = OK | {"patient": "FORBIDDEN"}
ADMIN_ONLY = FORBIDDEN | {"admin": "ok"}
NO_ROOM = {"*": "CHAT_ROOM_NOT_FOUND", "admin": "ok"}
NO_MESSAGE, NO_EMERGENCY = {"*": "MESSAGE_NOT_FOUND"}, {"*": "EMERGENCY_NOT_FOUND"}
NO_CALL = {"*": "CALL_NOT_FOUND", "admin": "FORBIDDEN"}  # admins see the hospital's calls and are not in them
NO_POSITION = {"*": "LOCATION_UNAVAILABLE"}
NOT_RINGING = {"*": "CALL_INVALID_STATE"}
NOT_DUE = FORBIDDEN | {"admin": "INVALID_TRANSITION"}
NOT_UNDERWAY = {"*": "INVALID_TRANSITION", "patient": "FORBIDDEN"}
IS_THERE = {"*": "VALIDATION_ERROR", "patient": "FORBIDDEN"}
BY_POLICY = FORBIDDEN | dict.fromkeys(("doctor", "nurse", "paramedic", "admin"), "ok")
OR_ALERTED = BY_POLICY | {"receptionist": "ok"}


@dataclass(frozen=True)
class Row:
    type: str
    fields: dict[str, Any]
    own: Outcomes  # of the owner
    same: Outcomes  # of the owner's hospital, the owner being a patient who was called by nobody


HELLO = {"title": "Ward 3", "body": "Now"}
WHY = {"reason": "because"}
# In this order, for each person: what ends a call or an emergency comes last.
ROWS = [
    Row("getMessages", {"chatRoomId": "R"}, OK, NO_ROOM),
    Row("markAsRead", {"messageId": "M"}, OK, NO_MESSAGE),
    Row("markAsRead", {"messageId": "M", "chatRoomId": "R", "upTo": True}, OK, NO_MESSAGE),
    Row("editMessage", {"messageId": "M", "message": "x"}, OK, NO_MESSAGE | {"admin": "FORBIDDEN"}),
    Row(
        "sendMessage",
        {"receiverId": "P", "hospitalId": "O", "message": "Why?", "replyTo": "M"},
        OK,
        NO_MESSAGE,
    ),
    Row("sendMessage", {"receiverId": "P", "hospitalId": "H", "message": "Hello"}, OK, OK),
    Row("joinChatRoom", {"receiverId": "P", "hospitalId": "O"}, OK, OK),
    Row("joinChatRoom", {"receiverId": "P", "hospitalId": "H"}, OK, OK),
    Row("typing", {"receiverId": "P", "hospitalId": "O", "isTyping": True}, OK, OK),
    Row(
        "locationUpdate",
        {"location": {"lat": 1.0, "lng": 1.0}, "isEmergency": True, "emergencyId": "E"},
        OK,
        OK,
    ),
    Row("locationRequest", {"targetUserId": "U"}, OK, NO_POSITION),
    Row("locationRequest", {"targetUserId": "U", "emergencyId": "E"}, OK, NO_POSITION),
    Row("watchLocations", {"on": True, "emergencyId": "E"}, STAFF_ONLY, OK),
    Row("watchLocations", {"on": True, "hospitalId": "H"}, STAFF_ONLY, OK),
    Row("joinHospital", {"hospitalId": "H"}, OK, OK),
    Row("watchBoard", {"hospitalId": "H"}, ADMIN_ONLY, ADMIN_ONLY),
    Row("notification", {"action": "markRead", "notificationId": "N"}, OK, NO_MESSAGE),
    # The owner wrote to a patient who has not agreed.
    Row(
        "notification",
        {"target": {"userId": "P"}, **HELLO},
        {"*": "USER_NOT_FOUND", "patient": "FORBIDDEN"},
        OK,
    ),
    Row("notification", {"target": {"hospitalId": "H"}, **HELLO}, ADMIN_ONLY, ADMIN_ONLY),
    Row(
        "callSignal",
        {"callId": "C", "targetUserId": "P", "signalType": "offer", "sdp": "v=0"},
        OK,
        {"*": "CALL_NOT_FOUND"},
    ),
    Row("callAddParticipant", {"callId": "C", "participantId": "doctor_123"}, STAFF_ONLY, NO_CALL),
    Row("callReject", {"callId": "C"}, NOT_RINGING, NO_CALL),
    Row("callAccept", {"callId": "C"}, NOT_RINGING, NO_CALL),
    Row("callEnd", {"callId": "C"}, OK, NO_CALL),
    Row("callInitiate", {"receiverId": "P", "hospitalId": "O", "callType": "audio"}, OK, OK),
    Row("callInitiate", {"participantIds": ["P"], "hospitalId": "H", "callType": "audio"}, OK, OK),
    Row("callInitiate", {"receiverId": "P", "callType": "audio", "emergencyId": "E"}, OK, OK),
    Row("nearestResponders", {"emergencyId": "E"}, STAFF_ONLY, OK),
    Row("emergencyConfirmPatient", {"emergencyId": "E", "isMe": True}, NO_EMERGENCY, NO_EMERGENCY),
    Row("emergencyEscalationAck", {"emergencyId": "E"}, NOT_DUE, NOT_DUE),
    Row(
        "emergencyAmend",
        {"emergencyId": "E", "changes": {"priority": "medium"}, **WHY},
        ADMIN_ONLY,
        ADMIN_ONLY,
    ),
    Row("emergencyStatusUpdate", {"emergencyId": "E", "phase": "onScene"}, NOT_UNDERWAY, NOT_UNDERWAY),
    Row("emergencyTransfer", {"emergencyId": "E", "toHospitalId": "H", **WHY}, IS_THERE, IS_THERE),
    Row("emergencyResponse", {"emergencyId": "E", "action": "accept"}, BY_POLICY, OR_ALERTED),
    Row("emergencyResponse", {"emergencyId": "E", "action": "reject"}, BY_POLICY, OR_ALERTED),
    Row(
        "emergencyReassign",
        {"emergencyId": "E", "assigneeId": "doctor_456", **WHY},
        ADMIN_ONLY,
        ADMIN_ONLY,
    ),
    Row(
        "emergencyStatusUpdate",
        {"emergencyId": "E", "status": "cancelled", "notes": "a false alarm"},
        OK,
        ADMIN_ONLY,
    ),
    Row("deleteMessage", {"messageId": "M", "chatRoomId": "R", **WHY}, OK, NO_MESSAGE | {"admin": "ok"}),
]
# The call for help makes an emergency, so it is asked about the hospital alone, by who is no patient.
BY_STAFF = [
    Row(
        "emergencyRequest",
        {
            "patientId": "walk-in",
            "hospitalId": "H",
            "location": {"lat": 37.0, "lng": -122.0},
            "condition": "Chest pain",
            "priority": "low",
        },
        OK,
        OK,
    ),
]
# Requests that name nothing but the sender's own connection, session, device or hospital.
WITHOUT_ID = {
    "login",
    "logout",
    "heartbeat",
    "userOnline",
    "userOffline",
    "sync",
    "ack",
    "hospitalStatus",
}
