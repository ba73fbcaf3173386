"""The words of the connection itself: signing in and out, presence, replay, refusals."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, StringConstraints

from hplus.protocol.wire import Event, Id, OptionalId, Request, Shape


def _short(value: Any) -> str | None:
    """What only describes a device keeps nobody out."""
    return value[:20] if isinstance(value, str) else None


Since = Annotated[int, Field(ge=0, lt=2**63)]

# What a client says


class Login(Request):
    """This is the token that tells who I am."""

    type = "login"
    rate_limited = False
    token: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
    device_id: OptionalId = None
    push_token: Annotated[str | None, StringConstraints(max_length=4096)] = None
    platform: Annotated[str | None, BeforeValidator(_short)] = None


class Logout(Request):
    """I leave, from this device or from all."""

    type = "logout"
    device_id: OptionalId = None
    all_devices: bool = False


class Heartbeat(Request):
    """I am still here; what time is it?"""

    type = "heartbeat"
    rate_limited = False


class JoinHospital(Request):
    """I want to hear what this hospital announces."""

    type = "joinHospital"
    hospital_id: Id


class GoOnline(Request):
    """I am there for others, or busy, or away."""

    type = "userOnline"
    status: Literal["available", "busy", "away"] = "available"


class GoOffline(Request):
    """Take me for absent."""

    type = "userOffline"


class Sync(Request):
    """Tell me what happened since the last letter I have."""

    type = "sync"
    since: Since
    epoch: str | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 500


class Acknowledge(Request):
    """I have everything up to here."""

    type = "ack"
    no_reply = True
    rate_limited = False
    seq: Since


# What HPlus says


class Limits(Shape):
    max_message_bytes: int
    messages_per_minute: int


class Snapshot(Shape):
    """What a screen that has just been opened shows first."""

    unread: list[dict[str, Any]] = []
    active_emergencies: list[dict[str, Any]] = []
    active_call: dict[str, Any] | None = None


class ConnectionEstablished(Event):
    """You are connected, and this is who you are."""

    type = "connection_established"
    connection_id: str
    user_id: str
    role: str
    hospital_id: str | None
    timestamp: datetime
    protocol_version: Literal[1] = 1
    epoch: str
    last_seq: int
    recovered: bool
    heartbeat_interval: int
    limits: Limits
    data: Snapshot


class HeartbeatAnswer(Event):
    """I am here too, and this is the time."""

    type = "heartbeat"
    timestamp: str | None
    server_time: datetime


class LoginSuccess(Event):
    """The token is good until then."""

    type = "loginSuccess"
    user_id: str
    role: str
    hospital_id: str | None
    expires_at: datetime | None


class LogoutSuccess(Event):
    """You have left."""

    type = "logoutSuccess"


class SignedOut(Event):
    """This user's other sockets must go."""

    type = "signedOut"
    internal = True
    user_id: str
    but: str

    def topic(self) -> str:
        return self.but


class HospitalInfo(Shape):
    name: str
    on_diversion: bool


class HospitalJoined(Event):
    """You hear this hospital from now on."""

    type = "hospitalJoined"
    hospital_id: str
    data: HospitalInfo


class _PresenceChanged(Event):
    delivery = "live"
    user_id: str
    role: str
    hospital_id: str | None
    status: str
    last_seen: datetime
    timestamp: datetime

    def author(self) -> str:
        return self.user_id


class UserOnline(_PresenceChanged):
    """Somebody is there, or busy, or away."""

    type = "userOnline"


class UserOffline(_PresenceChanged):
    """Somebody has gone."""

    type = "userOffline"


class SyncComplete(Event):
    """That was what you missed."""

    type = "syncComplete"
    from_: int = Field(serialization_alias="from", validation_alias=AliasChoices("from", "from_"))
    to: int
    recovered: bool
    has_more: bool
    epoch: str


class Ack(Event):
    """What you asked for is done, and will not be lost."""

    type = "ack"
    request_type: str
    request_id: str | None
    client_message_id: str | None
    status: Literal["ok", "duplicate"]
    data: dict[str, Any] | None


class Error(Event):
    """This was refused, and why."""

    type = "error"
    code: str
    message: str
    request_type: str | None
    request_id: str | None
    details: dict[str, Any]
    timestamp: datetime
    retry_after: float | None = Field(default=None, exclude_if=lambda seconds: seconds is None)
