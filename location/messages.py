"""The words of location."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from hplus.protocol.wire import Event, Id, Latitude, Longitude, OptionalId, Request, Shape, Verbatim


def _measure(value: Any) -> Any:
    """What a sensor says it does not know: iOS sends −1. An odd figure never costs the position."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number < float("inf") and not isinstance(value, bool) else None


def _short(value: Any) -> Any:
    return value[:50] if isinstance(value, str) else None


Measure = Annotated[float | None, BeforeValidator(_measure)]


# What a client says


class Measured(Shape):
    """A fix of the phone: degrees (WGS 84), metres, metres per second, degrees from north."""

    lat: Latitude
    lng: Longitude
    accuracy: Measure = None
    speed: Measure = None
    heading: Measure = None
    timestamp: Verbatim = None


class UpdateLocation(Request):
    """I am here."""

    type = "locationUpdate"
    no_reply = True
    location: Measured
    is_emergency: bool = False
    emergency_id: OptionalId = None
    status: Annotated[str | None, BeforeValidator(_short)] = None


class RequestLocation(Request):
    """Where is this person?"""

    type = "locationRequest"
    target_user_id: Id
    emergency_id: OptionalId = None


class WatchLocations(Request):
    """Ask to be shown positions as they come (`on: true`), or no longer (`on: false`). For staff, about
    their own hospital; a superuser names one by `hospitalId`. This connection, and no other of the same
    user, then gets a `locationUpdate` for each of the hospital's paramedics on duty and for the people of its
    open emergencies; with `emergencyId` only for the people of that one. At most two a second come of one
    person, always the newest; `locationRequest` tells where somebody was last. Requester, patient and
    assignee of an emergency get its positions without asking. `error` FORBIDDEN for patients and for an
    `emergencyId` that is not open in that hospital; HOSPITAL_MISMATCH for another hospital.
    """

    type = "watchLocations"
    on: Annotated[bool, Field(examples=[True])]
    hospital_id: OptionalId = None
    emergency_id: OptionalId = None


# What HPlus says


class Spot(Shape):
    """A fix as those see it who may.

    `timestamp` is the phone's own, in UTC, where that carries a zone and is not in the future; else
    the time of arrival. An `accuracy` that the phone did not tell is 0.0, as in the
    phone's own interfaces. `inaccurate`: over 1,000 m; `implausible`: over 70 m/s since the last
    fix; `stale`: older than two minutes.
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


class Whereabouts(Shape):
    """Where somebody is, and how far that is from where a crew is expected."""

    location: Spot
    is_emergency: bool
    emergency_id: str | None
    status: str
    eta_seconds: int | None
    distance_meters: float | None


class LocationUpdate(Event):
    """This person is here. The positions of an open emergency go to its requester, patient and assignee;
    these, and those of paramedics on duty, to staff who asked by `watchLocations`. Anybody else who may see
    one gets it by `locationRequest`.
    """

    type = "locationUpdate"
    delivery = "latest"
    user_id: str
    role: str
    hospital_id: str | None
    data: Whereabouts

    def author(self) -> str:
        return self.user_id

    def topic(self) -> str:
        return self.data.emergency_id or ""


class LocationRequested(Event):
    """Somebody who may know it asks where you are."""

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
    """Nobody sees your position for this emergency any more; you need not send it."""

    type = "locationSharingStopped"
    user_id: str
    emergency_id: str
    reason: str


class LocationSharingBegan(Event):
    """This person's position now belongs to a matter that must lose none of it."""

    type = "locationSharingBegan"
    internal = True
    user_id: str


class LocationSharingEnded(Event):
    """This person's position is no matter any more; what of it is still on its way is too late."""

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
    """How far somebody is: straight metres, estimated seconds by road, seconds since the fix."""

    user_id: str
    name: str
    distance_meters: float
    eta_seconds: int
    fix_age: Annotated[float, Field(ge=0)]


class LastSeen(LocationUpdate):
    """The last position that may be seen, and the way there as GeoJSON (RFC 7946)."""

    track: dict[str, Any]
