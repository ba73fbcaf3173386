"""What a hospital keeps of an emergency that another hospital has now."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from emergency.models import HospitalPart
from emergency.timeline import TimelineEntry, entries_of
from hplus.protocol.wire import Shape


class Part(Shape):
    """An emergency as it stood when the hospital gave it away, and what had happened by then."""

    emergency_id: str
    hospital_id: str
    until: datetime
    emergency: dict[str, Any]
    entries: list[TimelineEntry]


def part_of(part: HospitalPart) -> Part:
    """Return the part, which ends with the entry that gave the emergency away."""
    last = part.last_entry.sort_key
    entries = [entry for entry in entries_of(part.emergency) if entry.sort_key <= last]
    return Part(
        emergency_id=part.emergency_id,
        hospital_id=part.hospital_id,
        until=part.until,
        emergency=part.last_entry.data["emergency"],
        entries=[TimelineEntry.of(entry) for entry in entries],
    )
