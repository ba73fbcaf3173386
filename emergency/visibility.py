"""Which view of an emergency a user has now: of what is read, what is published and what is replayed."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from django.utils import timezone

from emergency.models import AidRequest, Alert, Emergency, Entry, EntryKind, HospitalPolicy
from hplus.accounts.models import User


class View(Enum):
    """The value ends the subject of an event in the mailbox of who has this view."""

    STAFF = ""  # everything
    PATIENT = "~p"  # the chart; neither other emergencies nor the staff who were called
    CALLER = "~c"  # who comes and when


def view_of(user: User, emergency: Emergency) -> View | None:
    """Return the user's view of one emergency; None where there is nothing to see."""
    return views_of([(user, emergency)])[0]


def views_of(pairs: Iterable[tuple[User, Emergency]]) -> list[View | None]:
    """Return the view of each user of an emergency, in order; with a fixed number of queries."""
    asked = list(pairs)
    staff = [(user, emergency) for user, emergency in asked if not user.is_patient]
    readers = _Readers(staff) if staff else None
    return [_view(user, emergency, readers) for user, emergency in asked]


def _view(user: User, emergency: Emergency, readers: _Readers | None) -> View | None:
    if user.is_superuser or (readers and readers.may_read(user, emergency)):
        return View.STAFF
    if emergency.is_patient(user):
        return View.PATIENT
    is_caller = user.pk == emergency.requested_by_id and not emergency.is_hidden_from_caller(timezone.now())
    return View.CALLER if is_caller else None


class _Readers:
    """The staff who read charts: by the policy of their hospital, by an alert, or as the assignee.

    The hospital that gave an emergency away keeps what it heard until then; of one that is asked to help, who
    was alerted reads what there is to accept.
    """

    def __init__(self, pairs: list[tuple[User, Emergency]]) -> None:
        emergencies = {emergency.pk for _, emergency in pairs}
        policies = HospitalPolicy.objects.in_bulk({user.hospital_id for user, _ in pairs if user.hospital_id})
        self._policies = policies
        alerts = Alert.objects.filter(user__in={user.pk for user, _ in pairs}, emergency__in=emergencies)
        self._alerted = set(alerts.exclude(entry=None).values_list("user_id", "emergency_id"))
        is_elsewhere = any(user.hospital_id != emergency.hospital_id for user, emergency in pairs)
        self._former = _former_hospitals(emergencies) if is_elsewhere else set()
        self._asked = _asked_hospitals(emergencies) if is_elsewhere else set()

    def may_read(self, user: User, emergency: Emergency) -> bool:
        if user.hospital_id is None:
            return False
        is_alerted = (user.pk, emergency.pk) in self._alerted
        if user.hospital_id != emergency.hospital_id:
            there = (user.hospital_id, emergency.pk)
            return there in self._former or (is_alerted and there in self._asked)
        policy = self._policies.get(user.hospital_id) or HospitalPolicy(hospital_id=user.hospital_id)
        is_concerned = user.pk == emergency.assigned_to_id or is_alerted
        return is_concerned or user.role in policy.chart_roles


def _asked_hospitals(emergency_ids: Iterable[str]) -> set[tuple[str, str]]:
    """Return each hospital that was asked to help, with the emergencies it was asked for."""
    asked = AidRequest.objects.filter(emergency__in=list(emergency_ids))
    return set(asked.values_list("hospital_id", "emergency_id"))


def _former_hospitals(emergency_ids: Iterable[str]) -> set[tuple[str, str]]:
    """Each hospital with the emergencies that have been there."""
    moves = Entry.objects.filter(
        emergency__in=list(emergency_ids), kind__in=(EntryKind.REQUESTED, EntryKind.TRANSFERRED)
    )
    states = moves.values_list("data__emergency__hospitalId", "emergency_id")
    return {(hospital_id, emergency_id) for hospital_id, emergency_id in states if hospital_id}
