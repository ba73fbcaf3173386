"""Location: positions, requests for one, and watching them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from hplus.protocol.wire import Event, Id, Latitude, Longitude, OptionalId, Request, Shape, Verbatim
from location.geo import is_nowhere


def _sensor_value(value: Any) -> Any:
    """Read a number from 0; None for anything else: iOS sends −1 for unknown, and no position is refused."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number < float("inf") and not isinstance(value, bool) else None


def _accuracy(value: Any) -> Any:
    """Read metres from 0, or −1 for any negative number: iOS has no position then."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return -1.0 if is_number and value < 0 else _sensor_value(value)


def _short(value: Any) -> Any:
    return value[:50] if isinstance(value, str) else None


SensorValue = Annotated[float | None, BeforeValidator(_sensor_value)]
Accuracy = Annotated[float | None, BeforeValidator(_accuracy)]


# Requests


class MeasuredPosition(Shape):
    """A fix of the phone: degrees (WGS 84), metres, metres per second, degrees from north.

    A negative `speed` or `heading` counts as unknown. With a negative `accuracy`, or at 0/0, it is no
    position: it is kept, flagged as implausible and never shown as the present one; nor is one that was
    measured before the present one. A `timestamp` counts only with its zone; one without tells which of two
    fixes within ten minutes is the older.
    """

    lat: Latitude
    lng: Longitude
    accuracy: Accuracy = None
    speed: SensorValue = None
    heading: SensorValue = None
    timestamp: Verbatim = None

    @property
    def is_fix(self) -> bool:
        """Whether the phone knew where it was."""
        return (self.accuracy is None or self.accuracy >= 0) and not is_nowhere(self.lat, self.lng)


class UpdateLocation(Request):
    """Send the phone's position: regularly while its user is on duty, in an emergency, or asked for it.

    With `emergencyId` the position belongs to that emergency, without it to the newest open one of the user,
    if there is one. Those who may see it get `locationUpdate`. There is no answer; after the end of the
    emergency `locationSharingStopped` comes once.
    """

    type = "locationUpdate"
    no_reply = True
    location: MeasuredPosition
    is_emergency: bool = False
    emergency_id: OptionalId = None
    status: Annotated[str | None, BeforeValidator(_short)] = None


class RequestLocation(Request):
    """Ask for the position of one person whose position you may see.

    The answer is `locationUpdate` with the last position, or `error` LOCATION_UNAVAILABLE where there is
    none. The person gets `locationRequest`, and you get the next position as soon as it comes.
    """

    type = "locationRequest"
    target_user_id: Id
    emergency_id: OptionalId = None


class WatchLocations(Request):
    """Subscribe this connection to positions as they come (`on: true`), or end that (`on: false`).

    For staff, about their own hospital; a superuser names one by `hospitalId`. This connection, and no other
    of the same user, then gets a `locationUpdate` for each of the hospital's paramedics on duty and for the
    people of its open emergencies; with `emergencyId` only for the people of that one. At most two a second
    come of one person, always the newest; ask for the last one before by `locationRequest`. Requester,
    patient and assignee of an emergency get its positions without this. `error` FORBIDDEN for patients and
    for an `emergencyId` that is not open in that hospital; HOSPITAL_MISMATCH for another hospital.
    """

    type = "watchLocations"
    on: Annotated[bool, Field(examples=[True])]
    hospital_id: OptionalId = None
    emergency_id: OptionalId = None


# Events


class Position(Shape):
    """A fix as it is published.

    `timestamp` is the phone's own, in UTC, where that has a zone and is not in the future; else the time of
    arrival. An unknown `accuracy` is 0.0, as in the phone's own interfaces. `inaccurate`: over 1,000 m;
    `implausible`: over 70 m/s since the last fix; `stale`: older than two minutes.
    """

    lat: float
    lng: float
    accuracy: float
    speed: float | None
    heading: float | None
    timestamp: str
    received_at: datetime
    stale: bool
    inaccurate: bool = False
    implausible: bool = False


class LocationDetails(Shape):
    """A position, the emergency it belongs to, and distance and time to where a crew is expected."""

    location: Position
    is_emergency: bool
    emergency_id: str | None
    status: str
    eta_seconds: int | None
    distance_meters: float | None


class LocationUpdate(Event):
    """The position of one person. A newer one replaces it; at most two a second come of one person.

    The positions of an open emergency go to its requester, patient and assignee; these, and those of
    paramedics on duty, to staff who asked by `watchLocations`; a single one answers `locationRequest`.
    """

    type = "locationUpdate"
    delivery = "latest"
    user_id: str
    role: str
    hospital_id: str | None
    data: LocationDetails

    def author(self) -> str:
        return self.user_id

    def topic(self) -> str:
        return self.data.emergency_id or ""


class LocationRequested(Event):
    """Somebody who may see your position asks for it: send `locationUpdate` once, now.

    After `expiresAt` nobody waits for it any more.
    """

    type = "locationRequest"
    request_id: str
    user_id: str
    requester_role: str
    target_user_id: str
    emergency_id: str | None
    expires_at: datetime

    def author(self) -> str:
        return self.user_id


class LocationSharingStopped(Event):
    """Nobody sees your position for this emergency any more: stop sending it."""

    type = "locationSharingStopped"
    user_id: str
    emergency_id: str
    reason: str


class LocationSharingBegan(Event):
    """A grant about this user was opened: from now on every position is stored at once."""

    type = "locationSharingBegan"
    internal = True
    user_id: str


class LocationSharingEnded(Event):
    """The grants about this user for one reason are closed: positions that still wait are dropped."""

    type = "locationSharingEnded"
    internal = True
    revokes = True
    user_id: str
    emergency_id: str

    def author(self) -> str:
        return self.user_id

    def topic(self) -> str:
        return self.emergency_id


# Over HTTP and between domains


class Nearby(Shape):
    """A user by distance: metres in a straight line, estimated seconds by road, seconds since the fix."""

    user_id: str
    name: str
    distance_meters: float
    eta_seconds: int
    fix_age: Annotated[float, Field(ge=0)]


class LastSeen(LocationUpdate):
    """The last position of a user, and the track that leads there as GeoJSON (RFC 7946)."""

    track: dict[str, Any]
