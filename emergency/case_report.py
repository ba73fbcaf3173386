"""An emergency told as one story, for its page: what happened, was said and was measured."""

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
from hplus.accounts.models import STAFF_ROLES, Hospital, User
from hplus.realtime.models import PresenceStatus as Presently
from location.actions import read_track

TOLD = 1000  # messages and calls; nobody reads more on one page
STEPS = 2000  # positions on the map; of more, every n-th
NAMED = 12
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


@dataclass
class Moment:
    """One paragraph of the story. `what` is a sentence, `said` are somebody's own words."""

    at: datetime
    kind: str
    what: str
    after_seconds: int = 0
    who: str = ""
    said: str = ""
    facts: list[str] = field(default_factory=list)
    news2: dict[str, Any] | None = None

    @property
    def score(self) -> str:
        return score_words(self.news2)

    @property
    def after(self) -> str:
        """How long after the call."""
        return clock(self.after_seconds)


class Teller:
    """Tells one emergency, with a fixed number of queries."""

    def __init__(self, emergency: Emergency, reader: User) -> None:
        self.emergency, self.reader = emergency, reader
        happened = Entry.objects.filter(emergency=emergency)
        self.entries = sorted(happened, key=lambda entry: entry.place)
        self.track = read_track(reader, emergency.pk)
        named = {entry.by_id for entry in self.entries} | {fix.user_id for fix in self.track}
        for entry in self.entries:
            named.update(entry.data.get("userIds", []))
            named.add((entry.data.get("emergency") or {}).get("assignedTo"))
        self.names = {
            pk: user.display_name for pk, user in User.objects.in_bulk(list(named - {None})).items()
        }

        moved = [entry for entry in self.entries if entry.kind == EntryKind.TRANSFERRED]
        there = [(entry.data.get("emergency") or {}).get("hospitalId") for entry in moved]
        self.hospitals = dict(Hospital.objects.filter(pk__in=there).values_list("pk", "name"))

    def name(self, user_id: str | None) -> str:
        return self.names.get(user_id or "", user_id or "")

    def story(self) -> list[Moment]:
        told = [self._of_entry(entry) for entry in self.entries]
        told += [self._of_message(message) for message in self._messages()]
        told += [self._of_call(call) for call in self._calls()]
        for moment in told:
            waited = moment.at - self.emergency.requested_at
            moment.after_seconds = max(0, round(waited.total_seconds()))
        return sorted(told, key=lambda moment: moment.at)

    # What happened

    def _of_entry(self, entry: Entry) -> Moment:
        tell = getattr(self, f"_{entry.kind}")
        moment: Moment = tell(entry)
        moment.who = moment.who or self.name(entry.by_id)
        return moment

    def _requested(self, entry: Entry) -> Moment:
        return Moment(entry.at, entry.kind, "called for help", said=self.emergency.condition)

    def _alerted(self, entry: Entry) -> Moment:
        people = entry.data.get("userIds", [])
        level = entry.data.get("escalationLevel", 0)
        more = len(people) - NAMED
        facts = [", ".join(map(self.name, people[:NAMED])) + (f" and {more} more" if more > 0 else "")]
        what = f"{len(people)} alerted" + (f", escalation level {level}" if level else "")
        return Moment(entry.at, entry.kind, what, who="HPlus", facts=facts)

    def _responded(self, entry: Entry) -> Moment:
        said = entry.data.get("responseNotes") or entry.data.get("rejectionReason") or ""
        what = "took it" if entry.data.get("action") == "accept" else "could not take it"
        eta = entry.data.get("estimatedArrival")
        return Moment(entry.at, entry.kind, what, said=said, facts=[f"arrival: {eta}"] if eta else [])

    def _status(self, entry: Entry) -> Moment:
        status, before, phase = (entry.data.get(key) for key in ("status", "previousStatus", "phase"))
        parts = [words(status)] if status != before else []
        parts += [words(phase)] if phase and status not in ("cancelled", "completed") else []
        what = "reported: " + (", ".join(parts) or words(status))
        done = entry.data.get("completionDetails") or {}
        facts = [f"{key}: {value}" for key, value in done.items()]
        return Moment(entry.at, entry.kind, what, said=entry.data.get("notes") or "", facts=facts)

    def _vitals(self, entry: Entry) -> Moment:
        readings = entry.data.get("readings") or {}
        facts = [_measured(key, value) for key, value in readings.items() if key in READINGS]
        facts += [
            f"{READINGS[key][0]}: no reading" for key in entry.data.get("withdrawn", ()) if key in READINGS
        ]
        return Moment(entry.at, entry.kind, "measured", facts=facts, news2=entry.data.get("news2"))

    def _escalated(self, entry: Entry) -> Moment:
        level = entry.data.get("level")
        return Moment(entry.at, entry.kind, f"nobody had accepted: escalation level {level}", who="HPlus")

    def _reassigned(self, entry: Entry) -> Moment:
        assignee = self.name((entry.data.get("emergency") or {}).get("assignedTo"))
        return Moment(entry.at, entry.kind, f"gave it to {assignee}", said=entry.data.get("notes") or "")

    def _transferred(self, entry: Entry) -> Moment:
        hospital_id = (entry.data.get("emergency") or {}).get("hospitalId")
        what = f"transferred it to {self.hospitals.get(hospital_id, hospital_id)}"
        return Moment(entry.at, entry.kind, what, said=entry.data.get("notes") or "")

    # What was said

    def _messages(self) -> Iterable[Message]:
        """Between the staff and whoever waits, in the time of the emergency."""
        waiting = Q(pk=self.emergency.patient_id) | Q(pk=self.emergency.requested_by_id)
        patients = User.objects.filter(waiting, role="patient")
        with_them = Q(sender__in=patients, receiver__role__in=STAFF_ROLES)
        with_them |= Q(receiver__in=patients, sender__role__in=STAFF_ROLES)
        found = Message.objects.filter(
            with_them,
            room__hospital=self.emergency.hospital_id,
            sent_at__range=(self.emergency.requested_at, self._end()),
        )
        return found.select_related("sender", "receiver").order_by("sent_at")[:TOLD]

    def took_seconds(self) -> int:
        return round((self._end() - self.emergency.requested_at).total_seconds())

    def _end(self) -> datetime:
        return self.emergency.completed_at or self.emergency.cancelled_at or timezone.now()

    def _of_message(self, message: Message) -> Moment:
        said = "(deleted)" if message.deleted_at else message.text or f"({message.message_type})"
        what = f"wrote to {message.receiver.display_name}"
        return Moment(message.sent_at, "message", what, who=message.sender.display_name, said=said)

    def _calls(self) -> Iterable[Call]:
        found = Call.objects.visible_to(self.reader).filter(
            emergency_id=self.emergency.pk, hospital=self.emergency.hospital_id
        )
        return found.select_related("initiator").with_people()[:TOLD]

    def _of_call(self, call: Call) -> Moment:
        others = ", ".join(one.user.display_name for one in call.people if one.user_id != call.initiator_id)
        facts = [f"duration_text for {call.duration_text}" if call.duration_text else call.status]
        what = f"{call.call_type} call to {others}"
        return Moment(call.started_at, "call", what, who=call.initiator.display_name, facts=facts)

    # For the map and the chart

    def positions(self) -> list[list[Any]]:
        """userId, milliseconds, latitude, longitude; in the order of time."""
        every = len(self.track) // STEPS + 1
        return [
            [fix.user_id, round(fix.at.timestamp() * 1000), fix.lat, fix.lng] for fix in self.track[::every]
        ]

    def scores(self) -> list[dict[str, Any]]:
        """Each NEWS2, with its time."""
        return [
            {
                "at": entry.at.isoformat(),
                **{key: entry.data["news2"][key] for key in ("score", "band", "complete")},
            }
            for entry in self.entries
            if entry.kind == EntryKind.VITALS and (entry.data.get("news2") or {}).get("score") is not None
        ]


def clock(seconds: int) -> str:
    """`4:07`, `1:02:30`."""
    hours, rest = divmod(max(0, seconds), 3600)
    minutes = f"{rest // 60:02}" if hours else f"{rest // 60}"
    return f"{hours}:{minutes}:{rest % 60:02}" if hours else f"{minutes}:{rest % 60:02}"


def words(name: str | None) -> str:
    """`in_progress` and `onScene` as people say it."""
    spaced = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name or "")
    return spaced.replace("_", " ").strip()


def score_words(news2: dict[str, Any] | None) -> str:
    """`5 medium`, `≥ 3` where the score is incomplete, or why there is none."""
    if not news2:
        return "–"
    if news2["score"] is None:
        return f"not for this patient ({news2['notApplicable']})"
    return f"{'' if news2['complete'] else '≥ '}{news2['score']} {words(news2['band'])}".strip()


def _measured(key: str, value: Any) -> str:
    label, unit = READINGS[key]
    if isinstance(value, bool):
        return f"{label} {'yes' if value else 'no'}"
    shown = f"{value:g}" if isinstance(value, int | float) else value
    return f"{label} {shown} {unit}".strip()


def assignable(emergency: Emergency) -> list[User]:
    """Whom an admin may give it to, those who are there first."""
    staff = User.objects.staff_of(emergency.hospital_id).exclude(pk=emergency.assigned_to_id)
    people = staff.select_related("presence").order_by("role", "name")
    return sorted(people, key=lambda person: not _is_there(person))


def _is_there(person: User) -> bool:
    return hasattr(person, "presence") and person.presence.status != Presently.OFFLINE


def other_hospitals(emergency: Emergency) -> list[Hospital]:
    return list(Hospital.objects.exclude(pk=emergency.hospital_id))
