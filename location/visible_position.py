"""What a user who may see a position gets of it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from hplus.accounts.models import User
from hplus.protocol.times import in_utc
from hplus.protocol.wire import rfc3339
from location import messages
from location.geo import distance_m, eta_seconds
from location.models import Grant, is_stale


class VisiblePosition(Protocol):
    """A position that is stored, or about to be."""

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


def location_update(position: VisiblePosition, grant: Grant | None) -> messages.LocationUpdate:
    """Return the event with a position as it is seen by this grant: it reveals no other emergency."""
    user = position.user
    metres = (
        distance_m((position.lat, position.lng), grant.destination) if grant and grant.destination else None
    )
    return messages.LocationUpdate(
        user_id=user.user_id,
        role=user.role,
        hospital_id=user.hospital_id,
        data=messages.LocationDetails(
            location=_position(position),
            is_emergency=grant is not None or (position.is_emergency and not position.reason_id),
            emergency_id=grant.reason_id if grant else None,
            status=position.status,
            eta_seconds=None if metres is None else eta_seconds(metres),
            distance_meters=None if metres is None else round(metres, 1),
        ),
    )


def _position(position: VisiblePosition) -> messages.Position:
    return messages.Position(
        lat=position.lat,
        lng=position.lng,
        accuracy=position.accuracy_m or 0.0,
        speed=position.speed_mps,
        heading=position.heading_degrees,
        timestamp=timestamp_of(position.said_at, position.at),
        received_at=position.received_at,
        stale=is_stale(position.at, timezone.now()),
        inaccurate=position.is_inaccurate,
        implausible=position.is_implausible,
    )


def timestamp_of(said_at: str, at: datetime) -> str:
    """Return the phone's own text where it is UTC, with the same number of decimals; else RFC 3339."""
    is_phone_utc = said_at.endswith("Z") and parse_zoned(said_at) == at
    return said_at if is_phone_utc else rfc3339(at)


def parse_naive(timestamp: str) -> datetime | None:
    """Parse a phone's timestamp without a zone; None for one with a zone, or an unreadable one."""
    try:
        moment = parse_datetime(timestamp)
    except ValueError:
        return None
    return moment if moment and moment.tzinfo is None else None


def parse_zoned(timestamp: str) -> datetime | None:
    """Parse a phone's timestamp with a zone; None for one without, whose moment nobody can know."""
    try:
        moment = parse_datetime(timestamp)
        return in_utc(moment) if moment and moment.tzinfo else None
    except ValueError:
        return None
