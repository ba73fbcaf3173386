"""What holds for every word and stands in no class: the handshake, the conventions, how sockets end.

The query is compared with the `Claim` that is read from it by a test.
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

INTRODUCTION = """\
HPlus speaks with phones and browsers over one WebSocket: conversations, presence and
everything else a hospital says in real time. This document is made from the classes that
validate and write each message, so it describes the server that runs."""

CONVENTIONS = (
    "A frame is one JSON object in text, with a `type`; binary frames are refused.",
    "A client's fields stand flat beside `type` or under `data`; where a field stands in both, "
    "flat wins. An unknown field is ignored.",
    "From a client, `null` and absent mean the same, and a blank optional id is absent too.",
    "HPlus may say more fields, and more words, in time: ignore what you do not know.",
    "Names are camelCase. Ids are strings. A time leaves HPlus in UTC as RFC 3339, with `Z`.",
    "A request is answered with `ack` where it carries `requestId` or `clientMessageId`, and only "
    "after what it asked for is durable. What is refused is answered with `error`.",
    f"A frame has at most {wire.MAX_MESSAGE_BYTES} bytes and {wire.MAX_DEPTH} levels. NaN, Infinity, "
    "NUL, lone surrogates and a key given twice are refused.",
)

HANDSHAKE = (
    "The query says who connects. Values are percent-encoded UTF-8; a blank one is missing.",
    "The proof is an access token: as `token` in the query, as `Authorization: Bearer` in the "
    f"handshake, or as a first `login` within {settings.LOGIN_SECONDS} seconds. In demo mode the "
    "query alone is enough.",
    "HPlus then says `connection_established`. What a client sends before it has come is answered "
    "after it, in order.",
    "A refusal is an accepted handshake, one `error`, and about "
    f"{settings.REFUSED_SOCKET_SECONDS:g} s later a close with its code.",
    "After a reconnect with `since` and `epoch` everything kept in between comes first, in order; "
    "`recovered` in `connection_established` tells whether nothing is missing.",
    "Liveness is WebSocket ping and pong; a silent client is not dropped.",
)


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
    Parameter("userId", "Who connects.", is_required=True, most_characters=150),
    Parameter("role", "As what.", is_required=True, one_of=tuple(Role.values)),
    Parameter("hospitalId", "Which hospital; required for every role but patient."),
    Parameter("department", "Where in the hospital, e.g. cardiology."),
    Parameter("specialization", "For what, e.g. cardiologist."),
    Parameter("token", "An access token, or a ticket for one handshake."),
    Parameter("deviceId", "Which device."),
    Parameter("since", "The last `seq` this client has; only digits."),
    Parameter("epoch", "The `epoch` that came with it."),
)


@dataclass(frozen=True)
class Ending:
    """A close code, and what it tells."""

    close_code: int
    meaning: str


# A refusal that ends the socket only sometimes has no close code of its own.
CLOSES_SOMETIMES: dict[type[errors.Refusal], tuple[int, str]] = {
    errors.HospitalNotFound: (4007, "at connect"),
    errors.MessageTooLarge: (1009, "where it is too large to be read at all"),
    errors.RateLimited: (4101, "on abuse"),
}
WITHOUT_REFUSAL = (
    Ending(1000, "After `logout`, or the client's own goodbye."),
    Ending(1001, "The server goes away. Reconnect at once."),
    Ending(1011, "Something went wrong on our side."),
    Ending(1012, "The server restarts. Reconnect at once."),
)
ADVICE = "40xx: do not retry unchanged. 41xx: back off. 1001 and 1012: reconnect at once."


@dataclass(frozen=True)
class ErrorCode:
    """A refusal as a client may meet it, on the socket and over HTTP."""

    code: str
    http_status: int
    close_code: int | None
    closes_when: str
    meaning: str


def error_codes() -> list[ErrorCode]:
    return [_error_code(refusal) for refusal in refusals()]


def endings() -> list[Ending]:
    """Every close code a client may meet."""
    refused = [
        Ending(code.close_code, f"`{code.code}`{f' {code.closes_when}' if code.closes_when else ''}")
        for code in error_codes()
        if code.close_code
    ]
    return sorted([*WITHOUT_REFUSAL, *refused], key=lambda ending: ending.close_code)


def _error_code(refusal: type[errors.Refusal]) -> ErrorCode:
    close_code, closes_when = CLOSES_SOMETIMES.get(refusal, (refusal.close_code, ""))
    remark = " ".join((refusal.__doc__ or "").split())
    meaning = f"{refusal.message} {remark}".strip()
    return ErrorCode(refusal.code, refusal.http_status, close_code, closes_when, meaning)
