"""Which view of an emergency a user has now: of what is read, what is published and what is replayed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from enum import Enum

from django.db.models import Q
from django.utils import timezone

from emergency.models import (
    AidRequest,
    Alert,
    Emergency,
    Entry,
    EntryKind,
    HospitalPart,
    HospitalPolicy,
)
from emergency.status import Status
from hplus.accounts.models import User


class View(Enum):
    """The value ends the subject of an event in the mailbox of who has this view."""

    STAFF = ""  # everything
    PATIENT = "~p"  # the chart; neither other emergencies nor the staff who were called
    CALLER = "~c"  # who comes and when

    @property
    def has_chart(self) -> bool:
        return self is not View.CALLER

    @classmethod
    def of_subject(cls, subject: str) -> View:
        """Return the view that an event with this subject was published in."""
        return next((view for view in (cls.PATIENT, cls.CALLER) if subject.endswith(view.value)), cls.STAFF)


def view_of(user: User, emergency: Emergency) -> View | None:
    """Return the user's view of one emergency; None where there is nothing to see."""
    return views_of([(user, emergency)])[0]


def views_of(pairs: Iterable[tuple[User, Emergency]]) -> list[View | None]:
    """Return the view each user has of an emergency now, in order; with a fixed number of queries."""
    asked = list(pairs)
    staff = [(user, emergency) for user, emergency in asked if not user.is_patient]
    readers = _Readers(staff) if staff else None
    return [_view(user, emergency, readers) for user, emergency in asked]


def views_of_entries(wanted: Iterable[tuple[User, Entry, View]]) -> list[View | None]:
    """Return the view each user has of an entry that was published to that user in the view given.

    Staff who heard it as their hospital's, or where that was asked to help, keep it when that is over. Of
    anything else they have the view they have of the emergency now.
    """
    entries = list(wanted)
    views = views_of((user, entry.emergency) for user, entry, _ in entries)
    shown = _shown_then(
        (user, entry)
        for (user, entry, published), view in zip(entries, views, strict=True)
        if published is View.STAFF and view is not View.STAFF
    )
    return [
        View.STAFF if published is View.STAFF and (user.pk, entry.pk) in shown else view
        for (user, entry, published), view in zip(entries, views, strict=True)
    ]


def readers_among(user_ids: Iterable[str], emergency: Emergency) -> set[str]:
    """Return those of these users who read the chart."""
    users = list(User.objects.filter(pk__in=set(user_ids)))
    views = views_of((user, emergency) for user in users)
    return {user.pk for user, view in zip(users, views, strict=True) if view and view.has_chart}


def _view(user: User, emergency: Emergency, readers: _Readers | None) -> View | None:
    if user.is_superuser or (readers and readers.may_read(user, emergency)):
        return View.STAFF
    if emergency.is_patient(user):
        return View.PATIENT
    is_caller = user.pk == emergency.requested_by_id and not emergency.is_hidden_from_caller(timezone.now())
    return View.CALLER if is_caller else None


class _Readers:
    """The staff who read charts: by the policy of their hospital, by an alert, or as the assignee.

    At a hospital that is asked to help, who was alerted reads what there is to accept.
    """

    def __init__(self, pairs: list[tuple[User, Emergency]]) -> None:
        emergencies = {emergency.pk for _, emergency in pairs}
        policies = HospitalPolicy.objects.in_bulk({user.hospital_id for user, _ in pairs if user.hospital_id})
        self._policies = policies
        alerts = Alert.objects.filter(user__in={user.pk for user, _ in pairs}, emergency__in=emergencies)
        self._alerted = set(alerts.exclude(entry=None).values_list("user_id", "emergency_id"))
        is_elsewhere = any(user.hospital_id != emergency.hospital_id for user, emergency in pairs)
        self._asked = _asked_hospitals(emergencies) if is_elsewhere else set()

    def may_read(self, user: User, emergency: Emergency) -> bool:
        if user.hospital_id is None:
            return False
        is_alerted = (user.pk, emergency.pk) in self._alerted
        if user.hospital_id != emergency.hospital_id:
            return is_alerted and (user.hospital_id, emergency.pk) in self._asked
        policy = self._policies.get(user.hospital_id) or HospitalPolicy(hospital_id=user.hospital_id)
        is_concerned = user.pk == emergency.assigned_to_id or is_alerted
        return is_concerned or user.role in policy.chart_roles


def _asked_hospitals(emergency_ids: Iterable[str]) -> set[tuple[str, str]]:
    """Return each hospital that is asked to help, with the emergencies it is asked for."""
    asked = AidRequest.objects.filter(emergency__in=list(emergency_ids), emergency__status=Status.PENDING)
    return set(asked.values_list("hospital_id", "emergency_id"))


def _shown_then(pairs: Iterable[tuple[User, Entry]]) -> set[tuple[str, str]]:
    """Return userId and entry id of those pairs where the user's hospital was concerned at that time."""
    staff = [(user, entry) for user, entry in pairs if user.hospital_id and not user.is_patient]
    if not staff:
        return set()
    past = _Past({entry.emergency_id for _, entry in staff})
    return {(user.pk, entry.pk) for user, entry in staff if past.was_shown(user, entry)}


class _Past:
    """What hospitals that gave emergencies away, or were asked to help with them, were shown until then."""

    def __init__(self, emergency_ids: set[str]) -> None:
        parts = HospitalPart.objects.filter(emergency__in=emergency_ids)
        self._until = {
            (hospital_id, emergency_id): until
            for hospital_id, emergency_id, until in parts.values_list("hospital_id", "emergency_id", "until")
        }
        self._asked = _times_asked(emergency_ids)

    def was_shown(self, user: User, entry: Entry) -> bool:
        until = self._until.get((user.hospital_id or "", entry.emergency_id))
        if until is not None and entry.at <= until:
            return True
        times = self._asked.get((user.pk, user.hospital_id or "", entry.emergency_id), [])
        return any(begun <= entry.at and (ended is None or entry.at <= ended) for begun, ended in times)


Times = list[tuple[datetime, datetime | None]]


def _times_asked(emergency_ids: set[str]) -> dict[tuple[str, str, str], Times]:
    """Return from when to when users were asked to help, by userId, hospital and emergency.

    It ends with the entry after which the emergency is no longer pending, or at another hospital.
    """
    ended = Q(kind=EntryKind.TRANSFERRED) | Q(data__emergency__status__in=[*set(Status) - {Status.PENDING}])
    entries = Entry.objects.filter(Q(data__mutualAid__isnull=False) | ended, emergency__in=emergency_ids)
    times: dict[tuple[str, str, str], Times] = defaultdict(list)
    for entry in entries.order_by("at", "entry_id"):
        if hospital_id := entry.data.get("mutualAid"):
            for user_id in entry.data["userIds"]:
                times[user_id, hospital_id, entry.emergency_id].append((entry.at, None))
        else:
            _end(times, entry)
    return times


def _end(times: dict[tuple[str, str, str], Times], entry: Entry) -> None:
    for (_, _, emergency_id), own in times.items():
        if emergency_id == entry.emergency_id:
            own[:] = [(begun, ended or entry.at) for begun, ended in own]
