"""What the protocol has beside its messages: the handshake, conventions, error codes and close codes.

A test compares QUERY with the `Claim` that is read from the query.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from hplus import errors
from hplus.accounts.models import Role
from hplus.protocol import wire
from hplus.protocol.registry import refusals
from hplus.realtime.messages import ConnectionEstablished

VERSION = str(ConnectionEstablished.model_fields["protocol_version"].default)
ADDRESS = "/"
LOCAL_SERVER = "ws://localhost:5000"  # as `make run` starts it

INTRODUCTION = """\
Apps connect to HPlus by one WebSocket for chat, emergencies, positions, calls, notices and presence.
This document is generated from the classes that validate and write each message, so it describes the
server that runs."""

CONVENTIONS = (
    "A frame is one JSON object in text, with a `type`; binary frames are refused.",
    "A client's fields are at the top level beside `type`, or under `data`; where a field is in both, "
    "the top level wins. An unknown field is ignored.",
    "From a client, `null` and absent mean the same, and a blank optional id is absent too.",
    "Later versions may send more fields and more types: ignore those you do not know.",
    "Names are camelCase. Ids are strings. HPlus sends times in UTC as RFC 3339, with `Z`.",
    "What is urgent (`emergencyAlert`, calls, the end of a session) overtakes what waits to be written to a "
    "slow reader: it then has its `eventId` but no `seq`, and its place is passed over later. After a "
    "reconnect with a cursor before that place it comes again: by `eventId` it is one.",
    "A request that carries `requestId` or `clientMessageId` is answered with `ack`, once its effect is "
    "durable. A refused one is answered with `error`.",
    f"A frame has at most {wire.MAX_MESSAGE_BYTES} bytes, {wire.MAX_DEPTH} levels and, unless it calls for "
    f"help, {wire.MAX_VALUES} values. NaN, Infinity, "
    "NUL, lone surrogates and a key given twice are refused.",
)

HANDSHAKE = (
    "The query names who connects. Values are percent-encoded UTF-8; a blank one is missing.",
    "An access token proves it: as `token` in the query, as `Authorization: Bearer` in the "
    f"handshake, or as a first `login` within {settings.LOGIN_SECONDS} seconds. In demo mode the "
    "query alone is enough.",
    "HPlus then sends `connection_established`. Frames that a client sends before it arrives are answered "
    "after it, in order.",
    "To refuse a connection HPlus accepts the handshake, sends one `error`, and closes about "
    f"{settings.REFUSED_SOCKET_SECONDS:g} s later with its close code.",
    "After a reconnect with `since` and `epoch` the durable events since then come first, in order; "
    "`recovered` in `connection_established` tells whether they are complete.",
    "Liveness is WebSocket ping and pong; a client that sends nothing else is not closed.",
)


# Documented once, not in the table of each request.
COMMON_FIELDS = {
    "requestId": "Repeated in the `ack` or `error` that answers this request.",
    "clientMessageId": "Where a request makes something, the same id from the same user makes it only once; "
    "each retry gets the same answer with `status: duplicate`.",
    "timestamp": "The client's own clock: kept, never trusted.",
}


@dataclass(frozen=True)
class Parameter:
    """One value of the handshake's query."""

    name: str
    meaning: str
    is_required: bool = False
    most_characters: int | None = None
    one_of: tuple[str, ...] = ()

    @property
    def meaning_with_limits(self) -> str:
        limits = [f"One of {', '.join(f'`{value}`' for value in self.one_of)}."] if self.one_of else []
        if self.most_characters:
            limits.append(f"Up to {self.most_characters} characters.")
        return " ".join([self.meaning, *limits])


QUERY = (
    Parameter("userId", "The user who connects.", is_required=True, most_characters=150),
    Parameter("role", "The user's role.", is_required=True, one_of=tuple(Role.values)),
    Parameter("hospitalId", "The user's hospital; required for every role but patient."),
    Parameter("department", "The department, e.g. cardiology."),
    Parameter("specialization", "The specialization, e.g. cardiologist."),
    Parameter("token", "An access token, or a ticket for one handshake."),
    Parameter("deviceId", "An id of the device, to sign it out later."),
    Parameter("since", "The last `seq` this client has; only digits."),
    Parameter("epoch", "The `epoch` that came with it."),
)


@dataclass(frozen=True)
class CloseCode:
    """A close code and its meaning."""

    close_code: int
    meaning: str


# Refusals that close the connection only sometimes, so that their class has no close code.
CLOSES_SOMETIMES: dict[type[errors.Refusal], tuple[int, str]] = {
    errors.HospitalNotFound: (4007, "at connect"),
    errors.MessageTooLarge: (1009, "where it is too large to be read at all"),
    errors.RateLimited: (4101, "on abuse"),
}
WITHOUT_REFUSAL = (
    CloseCode(1000, "After `logout`, or closed by the client."),
    CloseCode(1001, "The server goes away. Reconnect at once."),
    CloseCode(1011, "An error of the server."),
    CloseCode(1012, "The server restarts. Reconnect at once."),
)
RETRY_ADVICE = "40xx: do not retry unchanged. 41xx: back off. 1001 and 1012: reconnect at once."


@dataclass(frozen=True)
class ErrorCode:
    """A refusal as a client may get it, on the socket and over HTTP."""

    code: str
    http_status: int
    close_code: int | None
    closes_when: str
    meaning: str


def error_codes() -> list[ErrorCode]:
    return [_error_code(refusal) for refusal in refusals()]


def close_codes() -> list[CloseCode]:
    """Return every close code a client may get."""
    refused = [
        CloseCode(code.close_code, f"`{code.code}`{f' {code.closes_when}' if code.closes_when else ''}")
        for code in error_codes()
        if code.close_code
    ]
    return sorted([*WITHOUT_REFUSAL, *refused], key=lambda code: code.close_code)


def _error_code(refusal: type[errors.Refusal]) -> ErrorCode:
    close_code, closes_when = CLOSES_SOMETIMES.get(refusal, (refusal.close_code, ""))
    remark = " ".join((refusal.__doc__ or "").split())
    meaning = f"{refusal.message} {remark}".strip()
    return ErrorCode(refusal.code, refusal.http_status, close_code, closes_when, meaning)
