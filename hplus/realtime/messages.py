"""The connection itself: signing in and out, presence, replay, errors."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, StringConstraints

from hplus.protocol.wire import Event, Id, OptionalId, Request, Shape


def _short(value: Any) -> str | None:
    """A platform of the wrong type or length is no reason to refuse a sign-in."""
    return value[:20] if isinstance(value, str) else None


Since = Annotated[int, Field(ge=0, lt=2**63)]

# Requests


class Login(Request):
    """Sign in with an access token: as the first frame of a connection without one, or to renew it later.

    The answer is `loginSuccess`. On an open connection the token must be of the same user, else it closes
    with `AUTHENTICATION_FAILED`. `pushToken` registers the device for pushes; one of another account stays
    with it until that account signs out on the device or its session ends.
    """

    type = "login"
    rate_limited = False
    token: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
    device_id: OptionalId = None
    push_token: Annotated[str | None, StringConstraints(max_length=4096)] = None
    platform: Annotated[str | None, BeforeValidator(_short)] = None


class Logout(Request):
    """Sign out: end this session, that of `deviceId`, or all with `allDevices`.

    The answer is `logoutSuccess`, then the connection closes with 1000. With `allDevices` the user's other
    connections close with 4005.
    """

    type = "logout"
    device_id: OptionalId = None
    all_devices: bool = False


class Heartbeat(Request):
    """Ask whether the server lives; it answers at once with `heartbeat` and its time.

    Never required: a silent connection is not closed.
    """

    type = "heartbeat"
    rate_limited = False


class JoinHospital(Request):
    """Subscribe to a hospital's announcements and its diversion status.

    The answer is `hospitalJoined`. Staff may join only their own hospital.
    """

    type = "joinHospital"
    hospital_id: Id


class GoOnline(Request):
    """Set the status that others see. A new connection is `available` without this.

    Those who may see it get `userOnline`.
    """

    type = "userOnline"
    status: Literal["available", "busy", "away"] = "available"


class GoOffline(Request):
    """Appear offline although connected. Those who may see it get `userOffline`."""

    type = "userOffline"


class Sync(Request):
    """Replay the events after the last `seq` this client has, on an open connection.

    They come in order, then `syncComplete`; where its `hasMore` is true, send `sync` again with its `to`.
    It ends after `limit` events or about 1 MiB, and costs a credit of the rate limit for each 50 events or
    64 KiB; one of a person is read at a time.
    """

    type = "sync"
    long_answer = True
    since: Since
    epoch: str | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 500


class Acknowledge(Request):
    """Confirm every event up to this `seq`; messages among them count as delivered.

    Optional: HPlus notices delivery without it, only later. There is no answer.
    """

    type = "ack"
    no_reply = True
    rate_limited = False
    seq: Since


# Events


class Limits(Shape):
    """What one frame, one chat message and one minute may hold; 0 messages a minute is no limit."""

    max_message_bytes: int
    max_message_characters: int
    messages_per_minute: int


class Snapshot(Shape):
    """The state to show first: unread rooms, open emergencies, and the call in progress.

    The most urgent emergencies, as far as they fit; `hasMoreEmergencies` where the list over HTTP has more.
    """

    unread: list[dict[str, Any]] = []
    active_emergencies: list[dict[str, Any]] = []
    has_more_emergencies: bool = False
    active_call: dict[str, Any] | None = None


class ConnectionEstablished(Event):
    """The connection is open: who you are, your limits, and the state to show first.

    Keep `epoch`, and the highest `seq` of what you got, for the next reconnect. `recovered` is true where
    everything after `since` follows; where it is false, read the state over HTTP.
    """

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
    """The answer to `heartbeat`: your `timestamp` again, and the server's time."""

    type = "heartbeat"
    timestamp: str | None
    server_time: datetime


class LoginSuccess(Event):
    """The token was accepted; send `login` with a fresh one before `expiresAt`."""

    type = "loginSuccess"
    user_id: str
    role: str
    hospital_id: str | None
    expires_at: datetime | None


class LogoutSuccess(Event):
    """You are signed out; the connection closes with 1000."""

    type = "logoutSuccess"


class SignedOut(Event):
    """The user signed out everywhere: all connections but `but` are closed."""

    type = "signedOut"
    internal = True
    user_id: str
    but: str

    def topic(self) -> str:
        return self.but


class HospitalInfo(Shape):
    """A hospital's name, and whether it asks ambulances to go elsewhere."""

    name: str
    on_diversion: bool


class HospitalJoined(Event):
    """The answer to `joinHospital`: its announcements come from now on."""

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
    """A person whose presence you may see came online or changed the status."""

    type = "userOnline"


class UserOffline(_PresenceChanged):
    """A person whose presence you may see went offline.

    A lost connection counts only after a grace, so that a reconnect is not seen.
    """

    type = "userOffline"


class SyncComplete(Event):
    """The end of a `sync`: the events after `from` up to `to` have been sent.

    `recovered` is false where the cursor is too old or of another `epoch`: read the state over HTTP.
    """

    type = "syncComplete"
    from_: int = Field(serialization_alias="from", validation_alias=AliasChoices("from", "from_"))
    to: int
    recovered: bool
    has_more: bool
    epoch: str


class Ack(Event):
    """The request is done and stored; `data` has the ids of what was made.

    Sent where the request carried `requestId` or `clientMessageId`. A repeated one gets `duplicate` and the
    same `data`; a further call for help that was added to an open emergency gets `merged`.
    """

    type = "ack"
    request_type: str
    request_id: str | None
    client_message_id: str | None
    status: Literal["ok", "duplicate", "merged"]
    data: dict[str, Any] | None


class Error(Event):
    """A request was refused; `code` is for the app, `message` for people.

    `requestId` and `clientMessageId` are those of the frame it answers, wherever they could be read.

    Where `retryAfter` is given, repeat the request after so many seconds. The connection stays open unless
    the code has a close code.
    """

    type = "error"
    code: str
    message: str
    request_type: str | None
    request_id: str | None
    client_message_id: str | None = None
    details: dict[str, Any]
    timestamp: datetime
    retry_after: float | None = Field(default=None, exclude_if=lambda seconds: seconds is None)
