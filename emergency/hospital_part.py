"""Reading what a hospital keeps of an emergency that another hospital has now."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from emergency.models import HospitalPart, HospitalPolicy
from emergency.timeline import TimelineEntry, entries_of
from hplus import errors
from hplus.accounts.models import User
from hplus.audit.actions import record
from hplus.audit.models import Verb
from hplus.protocol.wire import Shape
from hplus.realtime.actions import action


class Part(Shape):
    """An emergency as it stood when the hospital gave it away, and what had happened by then."""

    emergency_id: str
    hospital_id: str
    until: datetime
    emergency: dict[str, Any]
    entries: list[TimelineEntry]


@action
def read_part(user: User, emergency_id: str) -> Part:
    """Return the part of the user's hospital, and record the access in the audit.

    Raises EmergencyNotFound where there is none, or Forbidden (a role that reads no charts).
    """
    found = HospitalPart.objects.visible_to(user).select_related("last_entry")
    part = found.find(emergency_id, errors.EmergencyNotFound(field="emergencyId"))
    policy = HospitalPolicy.of(part.hospital_id)
    if not user.is_superuser and user.role not in policy.chart_roles:
        raise errors.Forbidden("Your role reads no charts.")
    record(user, Verb.READ, part)
    return part_of(part)


def part_of(part: HospitalPart) -> Part:
    entries = [entry for entry in entries_of(part.emergency) if entry.at <= part.until]
    return Part(
        emergency_id=part.emergency_id,
        hospital_id=part.hospital_id,
        until=part.until,
        emergency=part.last_entry.data["emergency"],
        entries=[TimelineEntry.of(entry) for entry in entries],
    )
