"""The timeline of an emergency: adding entries, and reading them together with the positions."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal, Self

from pydantic.alias_generators import to_camel

from emergency.messages import BoardChanged
from emergency.models import Emergency, Entry, EntryKind
from emergency.visibility import View, view_of, views_of_entries
from hplus.accounts.models import User
from hplus.protocol.wire import Shape, rfc3339
from hplus.realtime import groups
from hplus.realtime.actions import publish
from location.actions import read_track
from location.models import Fix

MAX_TOLD = 5

# Writing


def add_entry(
    emergency: Emergency,
    kind: str,
    by: User | None,
    data: Shape | dict[str, Any],
    now: datetime,
    *,
    left_hospital_id: str | None = None,
    whole: dict[str, Any] | None = None,
) -> Entry:
    """Add an entry, which is never changed, and publish `boardChanged` to the hospital's board.

    `left_hospital_id`: the hospital that has given the emergency away, whose board has changed too. `whole`
    are values that events have shortened.
    """
    for hospital_id in filter(None, (left_hospital_id, emergency.hospital_id)):
        changed = BoardChanged(hospital_id=hospital_id, emergency_id=emergency.pk)
        publish(changed, groups.board(hospital_id))
    fields = data.as_json() if isinstance(data, Shape) else data
    if whole:
        fields = {**fields, "whole": {to_camel(name): value for name, value in whole.items()}}
    return Entry.objects.create(
        emergency=emergency, kind=kind, at=now, by=by, by_role=by.role if by else "", data=fields
    )


def has_told_often(emergency: Emergency, kind: str, user: User, now: datetime) -> bool:
    """Whether this user has caused MAX_TOLD such entries, each with an event for all, in the last minute.

    It bounds what one person, who is never rate limited here, makes everybody hear.
    """
    own = Entry.objects.filter(emergency=emergency, kind=kind, by=user)
    return own.filter(at__gt=now - timedelta(minutes=1)).count() >= MAX_TOLD


# Reading


def last_shown(user: User, emergency_id: str) -> dict[str, Any] | None:
    """Return the emergency as it stood in the last entry that was shown to this user.

    None where the user was not alerted to it at the present hospital.
    """
    found = Entry.objects.filter(emergency__in=Emergency.objects.with_id(emergency_id))
    entries = [entry for entry in found.select_related("emergency") if "emergency" in entry.data]
    views = views_of_entries((user, entry, View.STAFF) for entry in entries)
    shown = [entry for entry, view in zip(entries, views, strict=True) if view is View.STAFF]
    if not any(_has_alerted(entry, user) for entry in shown):
        return None
    state: dict[str, Any] = max(shown, key=lambda entry: entry.sort_key).data["emergency"]
    return state


def _has_alerted(entry: Entry, user: User) -> bool:
    """Whether the entry has alerted this user, at the hospital where the user still is."""
    hospital_id = entry.data.get("mutualAid") or entry.data["emergency"]["hospitalId"]
    is_alert = entry.kind == EntryKind.ALERTED and user.pk in entry.data["userIds"]
    return is_alert and hospital_id == user.hospital_id


# What a patient reads of an entry whose author is not named.
_SHOWN_OF_ANYBODY = ("emergencyId", "action", "status", "timestamp", "at", "until")


class TimelineEntry(Shape):
    """An entry, or a position of somebody who took part."""

    entry_id: str | None
    kind: str
    at: datetime
    by: str | None
    by_role: str | None
    data: dict[str, Any]

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """Leaves out the state of the emergency, which every entry repeats."""
        data = {key: value for key, value in entry.data.items() if key != "emergency"}
        return cls(
            entry_id=entry.pk,
            kind=entry.kind,
            at=entry.at,
            by=entry.by_id,
            by_role=entry.by_role or None,
            data=data,
        )

    def for_patient(self) -> Self:
        """Return it without the staff and the hospitals that were called, who declined, and what dispatchers
        note for each other."""
        is_decline = self.kind == EntryKind.RESPONDED and self.data.get("action") != "accept"
        if is_decline or self.kind == EntryKind.ACKNOWLEDGED:
            shown = {key: self.data[key] for key in _SHOWN_OF_ANYBODY if key in self.data}
            return self.model_copy(update={"data": shown, "by": None, "by_role": None})
        shown = {key: value for key, value in self.data.items() if key not in ("userIds", "mutualAid")}
        return self.model_copy(update={"data": shown})

    @classmethod
    def of_position(cls, fix: Fix) -> Self:
        data = {"lat": fix.lat, "lng": fix.lng, "accuracy": fix.accuracy_m, "measuredAt": rfc3339(fix.at)}
        return cls(
            entry_id=None, kind="position", at=fix.received_at, by=fix.user_id, by_role=None, data=data
        )


class Timeline(Shape):
    """Everything that happened in an emergency, in the order of time."""

    type: Literal["emergencyTimeline"] = "emergencyTimeline"
    emergency_id: str
    entries: list[TimelineEntry]


def entries_of(emergency: Emergency) -> list[Entry]:
    """Return the entries in order: by time, and of one action the cause before its effect."""
    return sorted(Entry.objects.filter(emergency=emergency), key=lambda entry: entry.sort_key)


def timeline(emergency: Emergency, reader: User) -> Timeline:
    """Return the timeline with positions; the reader's access to the positions is recorded."""
    entries = [TimelineEntry.of(entry) for entry in entries_of(emergency)]
    if view_of(reader, emergency) is not View.STAFF:
        entries = [entry.for_patient() for entry in entries]
    positions = [TimelineEntry.of_position(fix) for fix in read_track(reader, emergency.pk)]
    ordered = sorted([*entries, *positions], key=lambda entry: entry.at)
    return Timeline(emergency_id=emergency.pk, entries=ordered)
