"""The refusals, each with its code. The socket and REST each turn them into a response in one place."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """A request that HPlus refuses.

    `code` is the error code on the wire, `close_code` the WebSocket close code where the refusal ends the
    connection, `http_status` the status of the HTTP response.
    """

    code = "INTERNAL_ERROR"
    close_code: int | None = None
    http_status = 400
    message = "This cannot be done."

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | None = None,
        close_code: int | None = None,
        **details: Any,
    ) -> None:
        self.message = message or self.message
        self.details = details
        self.retry_after = retry_after
        self.frame: dict[str, Any] = {}  # what could be read of the frame that was refused unread
        self.close_code = close_code or self.close_code
        super().__init__(self.message)


# Identity


class AuthenticationFailed(Refusal):
    code, close_code, http_status = "AUTHENTICATION_FAILED", 4001, 401
    message = "Authentication failed."


class InvalidRole(Refusal):
    code, close_code = "INVALID_ROLE", 4002
    message = "The role is missing or unknown."


class MissingHospitalId(Refusal):
    code, close_code = "MISSING_HOSPITAL_ID", 4003
    message = "hospitalId is required for this role."


class AccountDisabled(Refusal):
    code, close_code, http_status = "ACCOUNT_DISABLED", 4004, 403
    message = "This account is deactivated."


class SessionRevoked(Refusal):
    code, close_code, http_status = "SESSION_REVOKED", 4005, 401
    message = "This session has ended. Please sign in again."


class HospitalNotFound(Refusal):
    """At connect it closes with 4007; in a message the connection stays open."""

    code, http_status = "HOSPITAL_NOT_FOUND", 404
    message = "There is no such hospital."


# The message itself


class InvalidJson(Refusal):
    code = "INVALID_JSON"
    message = "The frame is not valid JSON."


class InvalidMessage(Refusal):
    code = "INVALID_MESSAGE"
    message = "A frame is one JSON object with a type."


class UnknownType(Refusal):
    code = "UNKNOWN_TYPE"
    message = "This type of message is unknown."


class ValidationFailed(Refusal):
    """`details.field` names the field as the client wrote it."""

    code = "VALIDATION_ERROR"
    message = "The message is not valid."


class MessageTooLarge(Refusal):
    code, http_status = "MESSAGE_TOO_LARGE", 413
    message = "The message is too large."


# Not allowed


class Forbidden(Refusal):
    code, http_status = "FORBIDDEN", 403
    message = "You may not do this."


class HospitalMismatch(Refusal):
    code, http_status = "HOSPITAL_MISMATCH", 403
    message = "This is not your hospital."


# Unknown, or not visible to this user: the same error for both


class UserNotFound(Refusal):
    code, http_status = "USER_NOT_FOUND", 404
    message = "There is no such user."


class ChatRoomNotFound(Refusal):
    code, http_status = "CHAT_ROOM_NOT_FOUND", 404
    message = "There is no such chat room."


class MessageNotFound(Refusal):
    code, http_status = "MESSAGE_NOT_FOUND", 404
    message = "There is no such message."


class EmergencyNotFound(Refusal):
    code, http_status = "EMERGENCY_NOT_FOUND", 404
    message = "There is no such emergency."


class CallNotFound(Refusal):
    code, http_status = "CALL_NOT_FOUND", 404
    message = "There is no such call."


# Conflicts with the present state


class EmergencyAlreadyAssigned(Refusal):
    code, http_status = "EMERGENCY_ALREADY_ASSIGNED", 409
    message = "Somebody else has accepted this emergency."


class InvalidTransition(Refusal):
    code, http_status = "INVALID_TRANSITION", 409
    message = "This is not possible in the present state."


class CallBusy(Refusal):
    code, http_status = "CALL_BUSY", 409
    message = "The other side is in a call."


class CallInvalidState(Refusal):
    code, http_status = "CALL_INVALID_STATE", 409
    message = "The call is not in a state for this."


class LocationUnavailable(Refusal):
    code, http_status = "LOCATION_UNAVAILABLE", 404
    message = "No position is known."


class VersionConflict(Refusal):
    code, http_status = "VERSION_CONFLICT", 409
    message = "Somebody else has changed this meanwhile; `details.version` is the current one."


class IdempotencyConflict(Refusal):
    code, http_status = "IDEMPOTENCY_CONFLICT", 409
    message = "This clientMessageId was used for something else."


# Limits


class RateLimited(Refusal):
    code, http_status = "RATE_LIMITED", 429
    message = "Too many messages. Please slow down."


class QuotaExceeded(Refusal):
    """`details.scope` is user, room, hospital or server; `details.bytesLeft` what still fits."""

    code, http_status = "QUOTA_EXCEEDED", 413
    message = "There is no room left for this file."


class TooManyConnections(Refusal):
    code, close_code, http_status = "TOO_MANY_CONNECTIONS", 4102, 429
    message = "Too many connections."


class SlowConsumer(Refusal):
    code, close_code = "SLOW_CONSUMER", 4103
    message = "This client does not read fast enough."


# Server errors


class InternalError(Refusal):
    """`details.reference` is to be looked up in the logs."""

    code, http_status = "INTERNAL_ERROR", 500
    message = "Something went wrong on our side."
