"""The case report of an emergency, for its admin page: timeline, messages, calls, positions and scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Q
from django.utils import timezone

from calls.models import Call
from chat.models import Message
from emergency.models import Emergency, Entry, EntryKind
from emergency.sharing import people_waiting
from emergency.status import StallCause
from emergency.timeline import entries_of
from hplus.accounts.models import STAFF_ROLES, Hospital, Role, User
from hplus.realtime.models import PresenceStatus
from location.actions import read_track

MAX_ROWS = 1000  # messages and calls on one page
MAX_POSITIONS = 2000  # on the map; of more, every n-th
MAX_NAMES = 12
READINGS = {
    "respirationRate": ("respiration", "/min"),
    "spo2": ("SpO₂", "%"),
    "systolic": ("systolic", "mmHg"),
    "diastolic": ("diastolic", "mmHg"),
    "pulse": ("pulse", "/min"),
    "temperature": ("temperature", "°C"),
    "consciousness": ("ACVPU", ""),
    "onOxygen": ("oxygen", ""),
}

STALLS = {
    StallCause.ACKNOWLEDGE: "has not acknowledged the assignment",
    StallCause.TURNOUT: "has not set out",
    StallCause.UNREACHABLE: "can't be reached",
}


@dataclass
class ReportEvent:
    """One event of the report: `who` did `what`; `quote` is text that a person entered."""

    at: datetime
    kind: str
    what: str
    seconds_since_call: int = 0
    who: str = ""
    quote: str = ""
    facts: list[str] = field(default_factory=list)
    news2: dict[str, Any] | None = None

    @property
    def time_since_call(self) -> str:
        return duration_text(self.seconds_since_call)

    @property
    def score(self) -> str:
        return score_text(self.news2)


class CaseReport:
    """Reads everything about one emergency, with a fixed number of queries."""

    def __init__(self, emergency: Emergency, reader: User) -> None:
        self.emergency, self.reader = emergency, reader
        self.entries = entries_of(emergency)
        self.track = read_track(reader, emergency.pk)
        users = User.objects.in_bulk(list(self._user_ids()))
        self.names = {pk: user.display_name for pk, user in users.items()}
        transfers = [entry for entry in self.entries if entry.kind == EntryKind.TRANSFERRED]
        receiving_ids = [_state(entry).get("hospitalId") for entry in transfers]
        self.hospitals = dict(Hospital.objects.filter(pk__in=receiving_ids).values_list("pk", "name"))

    def _user_ids(self) -> set[str]:
        found = {entry.by_id for entry in self.entries} | {fix.user_id for fix in self.track}
        for entry in self.entries:
            found.update(entry.data.get("userIds", []))
            found.add(entry.data.get("userId"))
            found.add(_state(entry).get("assignedTo"))
        return found - {None}

    def name(self, user_id: str | None) -> str:
        return self.names.get(user_id or "", user_id or "")

    def events(self) -> list[ReportEvent]:
        """Timeline entries, messages and calls, in the order of time."""
        events = [self._of_entry(entry) for entry in self.entries]
        events += [self._of_message(message) for message in self._messages()]
        events += [self._of_call(call) for call in self._calls()]
        for event in events:
            since_call = event.at - self.emergency.requested_at
            event.seconds_since_call = max(0, round(since_call.total_seconds()))
        return sorted(events, key=lambda event: event.at)

    # Timeline entries

    def _of_entry(self, entry: Entry) -> ReportEvent:
        event: ReportEvent = getattr(self, f"_{entry.kind}")(entry)
        event.who = event.who or self.name(entry.by_id)
        return event

    def _requested(self, entry: Entry) -> ReportEvent:
        return ReportEvent(entry.at, entry.kind, "called for help", quote=self.emergency.condition)

    def _alerted(self, entry: Entry) -> ReportEvent:
        user_ids = entry.data.get("userIds", [])
        level = entry.data.get("escalationLevel", 0)
        more = len(user_ids) - MAX_NAMES
        facts = [", ".join(map(self.name, user_ids[:MAX_NAMES])) + (f" and {more} more" if more > 0 else "")]
        what = f"{len(user_ids)} alerted" + (f", escalation level {level}" if level else "")
        return ReportEvent(entry.at, entry.kind, what, who="HPlus", facts=facts)

    def _responded(self, entry: Entry) -> ReportEvent:
        quote = entry.data.get("responseNotes") or entry.data.get("rejectionReason") or ""
        what = "took it" if entry.data.get("action") == "accept" else "could not take it"
        eta = entry.data.get("estimatedArrival")
        return ReportEvent(entry.at, entry.kind, what, quote=quote, facts=[f"arrival: {eta}"] if eta else [])

    def _status(self, entry: Entry) -> ReportEvent:
        status, previous, phase = (entry.data.get(key) for key in ("status", "previousStatus", "phase"))
        parts = [humanized(status)] if status != previous else []
        parts += [humanized(phase)] if phase and status not in ("cancelled", "completed") else []
        what = "reported: " + (", ".join(parts) or humanized(status))
        details = entry.data.get("completionDetails") or {}
        facts = [f"{key}: {value}" for key, value in details.items()]
        return ReportEvent(entry.at, entry.kind, what, quote=entry.data.get("notes") or "", facts=facts)

    def _vitals(self, entry: Entry) -> ReportEvent:
        readings = entry.data.get("readings") or {}
        facts = [_reading_text(key, value) for key, value in readings.items() if key in READINGS]
        withdrawn = [key for key in entry.data.get("withdrawn", ()) if key in READINGS]
        facts += [f"{READINGS[key][0]}: no reading" for key in withdrawn]
        return ReportEvent(entry.at, entry.kind, "measured", facts=facts, news2=entry.data.get("news2"))

    def _escalated(self, entry: Entry) -> ReportEvent:
        level = entry.data.get("level")
        what = f"nobody had accepted: escalation level {level}"
        return ReportEvent(entry.at, entry.kind, what, who="HPlus")

    def _reassigned(self, entry: Entry) -> ReportEvent:
        what = f"gave it to {self.name(_state(entry).get('assignedTo'))}"
        return ReportEvent(entry.at, entry.kind, what, quote=entry.data.get("notes") or "")

    def _transferred(self, entry: Entry) -> ReportEvent:
        hospital_id = _state(entry).get("hospitalId")
        what = f"transferred it to {self.hospitals.get(hospital_id, hospital_id)}"
        return ReportEvent(entry.at, entry.kind, what, quote=entry.data.get("notes") or "")

    def _stalled(self, entry: Entry) -> ReportEvent:
        who, cause = self.name(entry.data.get("userId")), entry.data.get("cause", "")
        return ReportEvent(entry.at, entry.kind, f"stalled: {who} {STALLS.get(cause, cause)}", who="HPlus")

    def _released(self, entry: Entry) -> ReportEvent:
        who = self.name(entry.data.get("userId"))
        return ReportEvent(entry.at, entry.kind, f"released {who}: others are alerted", who="HPlus")

    def _acknowledged(self, entry: Entry) -> ReportEvent:
        quote = entry.data.get("note") or ""
        return ReportEvent(entry.at, entry.kind, "has seen it: nobody is asked for 5 minutes", quote=quote)

    def _confirmed(self, entry: Entry) -> ReportEvent:
        what = "confirmed to be the patient" if entry.data.get("isMe") else "is not the patient"
        return ReportEvent(entry.at, entry.kind, what)

    def _amended(self, entry: Entry) -> ReportEvent:
        changed = (entry.data.get("changed") or {}).items()
        facts = [
            f"{humanized(name)}: {_value_text(change['from'])} → {_value_text(change['to'])}"
            for name, change in changed
        ]
        return ReportEvent(
            entry.at, entry.kind, "corrected", quote=entry.data.get("reason") or "", facts=facts
        )

    # Messages and calls

    def _messages(self) -> Iterable[Message]:
        """Messages between staff and the requester or patient, from the call for help to the end."""
        waiting = people_waiting(self.emergency)
        patients = User.objects.filter(pk__in=waiting, role=Role.PATIENT)
        with_them = Q(sender__in=patients, receiver__role__in=STAFF_ROLES)
        with_them |= Q(receiver__in=patients, sender__role__in=STAFF_ROLES)
        found = Message.objects.filter(
            with_them,
            room__hospital=self.emergency.hospital_id,
            sent_at__range=(self.emergency.requested_at, self._end()),
        )
        return found.select_related("sender", "receiver").order_by("sent_at")[:MAX_ROWS]

    def _of_message(self, message: Message) -> ReportEvent:
        quote = "(deleted)" if message.deleted_at else message.text or f"({message.message_type})"
        what = f"wrote to {message.receiver.display_name}"
        return ReportEvent(message.sent_at, "message", what, who=message.sender.display_name, quote=quote)

    def _calls(self) -> Iterable[Call]:
        found = Call.objects.visible_to(self.reader).filter(
            emergency_id=self.emergency.pk, hospital=self.emergency.hospital_id
        )
        return found.select_related("initiator").with_people()[:MAX_ROWS]

    def _of_call(self, call: Call) -> ReportEvent:
        others = ", ".join(one.user.display_name for one in call.people if one.user_id != call.initiator_id)
        facts = [f"talked for {call.duration_text}" if call.duration_text else call.status]
        what = f"{call.call_type} call to {others}"
        return ReportEvent(call.started_at, "call", what, who=call.initiator.display_name, facts=facts)

    # Duration, map and chart

    def duration_seconds(self) -> int:
        """Return seconds from the call for help to the end, or until now."""
        return round((self._end() - self.emergency.requested_at).total_seconds())

    def _end(self) -> datetime:
        return self.emergency.completed_at or self.emergency.cancelled_at or timezone.now()

    def positions(self) -> list[list[Any]]:
        """Return userId, milliseconds since 1970, latitude and longitude, in the order of time."""
        known = [fix for fix in self.track if fix.is_known]
        every = len(known) // MAX_POSITIONS + 1
        return [[fix.user_id, round(fix.at.timestamp() * 1000), fix.lat, fix.lng] for fix in known[::every]]

    def scores(self) -> list[dict[str, Any]]:
        """Return each NEWS2 score with its time."""
        return [
            {
                "at": entry.at.isoformat(),
                **{key: entry.data["news2"][key] for key in ("score", "band", "complete")},
            }
            for entry in self.entries
            if entry.kind == EntryKind.VITALS and (entry.data.get("news2") or {}).get("score") is not None
        ]


def _state(entry: Entry) -> dict[str, Any]:
    """The emergency as it stood after the entry; empty where the entry has none."""
    return entry.data.get("emergency") or {}


def duration_text(seconds: int) -> str:
    """`4:07`, `1:02:30`."""
    hours, rest = divmod(max(0, seconds), 3600)
    minutes = f"{rest // 60:02}" if hours else f"{rest // 60}"
    return f"{hours}:{minutes}:{rest % 60:02}" if hours else f"{minutes}:{rest % 60:02}"


def humanized(name: str | None) -> str:
    """`in_progress` and `onScene` as `in progress` and `on scene`."""
    spaced = "".join(f" {char.lower()}" if char.isupper() else char for char in name or "")
    return spaced.replace("_", " ").strip()


def score_text(news2: dict[str, Any] | None) -> str:
    """`5 medium`, `≥ 3` for an incomplete score, or why there is none."""
    if not news2:
        return "–"
    if news2["score"] is None:
        return f"not for this patient ({news2['notApplicable']})"
    return f"{'' if news2['complete'] else '≥ '}{news2['score']} {humanized(news2['band'])}".strip()


def _value_text(value: Any) -> str:
    """One side of a change: the parts of an object with commas between, a dash for nothing."""
    if isinstance(value, dict):
        return ", ".join(str(part) for part in value.values() if part is not None)
    return "–" if value is None else str(value)


def _reading_text(key: str, value: Any) -> str:
    label, unit = READINGS[key]
    if isinstance(value, bool):
        return f"{label} {'yes' if value else 'no'}"
    text = f"{value:g}" if isinstance(value, int | float) else value
    return f"{label} {text} {unit}".strip()


def assignable(emergency: Emergency) -> list[User]:
    """Return the staff whom an admin may assign, those online first."""
    staff = User.objects.staff_of(emergency.hospital_id).exclude(pk=emergency.assigned_to_id)
    users = staff.select_related("presence").order_by("role", "name")
    return sorted(users, key=lambda user: not _is_online(user))


def _is_online(user: User) -> bool:
    return hasattr(user, "presence") and user.presence.status != PresenceStatus.OFFLINE


def other_hospitals(emergency: Emergency) -> list[Hospital]:
    return list(Hospital.objects.exclude(pk=emergency.hospital_id))
