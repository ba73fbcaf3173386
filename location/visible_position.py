"""What somebody who may see a position is shown of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from hplus.accounts.models import User
from hplus.protocol.wire import rfc3339
from location import messages
from location.geo import distance_m, eta_seconds
from location.models import Grant, is_stale


class Seen(Protocol):
    """A position in the database, or on its way there."""

    user: User
    lat: float
    lng: float
    accuracy_m: float | None
    speed_mps: float | None
    heading_degrees: float | None
    at: datetime
    received_at: datetime
    said_at: str
    reason_id: str
    is_emergency: bool
    status: str
    is_inaccurate: bool
    is_implausible: bool


def location_update(position: Seen, grant: Grant | None) -> messages.LocationUpdate:
    """The position in the light of the grant it is seen by: no other matter shows."""
    user = position.user
    metres = (
        distance_m((position.lat, position.lng), grant.destination) if grant and grant.destination else None
    )
    return messages.LocationUpdate(
        user_id=user.user_id,
        role=user.role,
        hospital_id=user.hospital_id,
        data=messages.Whereabouts(
            location=_spot(position),
            is_emergency=grant is not None or (position.is_emergency and not position.reason_id),
            emergency_id=grant.reason_id if grant else None,
            status=position.status,
            eta_seconds=None if metres is None else eta_seconds(metres),
            distance_meters=None if metres is None else round(metres, 1),
        ),
    )


def _spot(position: Seen) -> messages.Spot:
    return messages.Spot(
        lat=position.lat,
        lng=position.lng,
        accuracy=position.accuracy_m or 0.0,
        speed=position.speed_mps,
        heading=position.heading_degrees,
        timestamp=_timestamp(position),
        received_at=position.received_at,
        stale=is_stale(position.at, timezone.now()),
        inaccurate=position.is_inaccurate,
        implausible=position.is_implausible,
    )


def _timestamp(position: Seen) -> str:
    """As the phone wrote it where it wrote UTC, with as many decimals."""
    is_said = position.said_at.endswith("Z") and parse_zoned(position.said_at) == position.at
    return position.said_at if is_said else rfc3339(position.at)


def parse_zoned(said_at: str) -> datetime | None:
    """A phone's word for a moment, where it names its zone; a naive one means a different moment in
    every country."""
    try:
        moment = parse_datetime(said_at)
        return moment.astimezone(UTC) if moment and moment.tzinfo else None
    except (ValueError, OverflowError):
        return None
