"""An emergency from its first minute to its last: entries and positions in one order of time."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from emergency.models import Emergency, Entry
from hplus.accounts.models import User
from hplus.protocol.wire import Shape, rfc3339
from location.actions import read_track
from location.models import Fix


class Moment(Shape):
    """One thing that happened, or one position of somebody who took part."""

    entry_id: str | None
    kind: str
    at: datetime
    by: str | None
    by_role: str | None
    data: dict[str, Any]

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """Without the emergency as it stood then: every entry would repeat the one before."""
        said = {key: value for key, value in entry.data.items() if key != "emergency"}
        return cls(
            entry_id=entry.pk,
            kind=entry.kind,
            at=entry.at,
            by=entry.by_id,
            by_role=entry.by_role or None,
            data=said,
        )

    @classmethod
    def of_position(cls, fix: Fix) -> Self:
        place = {"lat": fix.lat, "lng": fix.lng, "accuracy": fix.accuracy_m, "measuredAt": rfc3339(fix.at)}
        return cls(
            entry_id=None, kind="position", at=fix.received_at, by=fix.user_id, by_role=None, data=place
        )


class Timeline(Shape):
    """Everything that happened in an emergency, the first thing first."""

    type: Literal["emergencyTimeline"] = "emergencyTimeline"
    emergency_id: str
    entries: list[Moment]


def timeline(emergency: Emergency, reader: User) -> Timeline:
    """For these eyes; that the positions in it were read is recorded."""
    happened = sorted(Entry.objects.filter(emergency=emergency), key=lambda entry: entry.place)
    entries = [Moment.of(entry) for entry in happened]
    positions = [Moment.of_position(fix) for fix in read_track(reader, emergency.pk)]
    ordered = sorted([*entries, *positions], key=lambda moment: moment.at)
    return Timeline(emergency_id=emergency.pk, entries=ordered)
