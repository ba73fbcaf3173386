"""The invariant: every open emergency has somebody whose turn it is, and a next deadline in the database.

A constraint refuses a row without a deadline (`HAS_NEXT_DEADLINE`); `manage.py doctor` and the tests of
random histories call `faults`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from emergency import audience
from emergency.escalation import DISPATCHERS
from emergency.models import Alert, Emergency, Reply
from emergency.status import OPEN
from hplus.accounts.models import User

OVERDUE_AFTER = timedelta(seconds=10)  # the jobs look twice a second


@dataclass(frozen=True)
class Turn:
    """Who has to act, by userId, and when HPlus does something unless one of them has."""

    user_ids: frozenset[str]
    deadline: datetime | None


def turn_of(emergency: Emergency) -> Turn:
    """Whose turn it is in an open emergency.

    The assignee, and the dispatchers where it has stalled; while nobody is assigned those alerted who have
    not declined, from level 2 on the dispatchers. Where that is nobody, the requester, who has been told.
    """
    users = set(_assignee(emergency) if emergency.is_underway else _undecided(emergency))
    if emergency.stalled_cause or emergency.escalation_level >= DISPATCHERS:
        users.update(audience.dispatchers(emergency.hospital_id))
    return Turn(frozenset(users or {emergency.requested_by_id}), emergency.next_deadline)


def _assignee(emergency: Emergency) -> set[str]:
    active = User.objects.filter(pk=emergency.assigned_to_id, is_active=True)
    return set(active.values_list("pk", flat=True))


def _undecided(emergency: Emergency) -> list[str]:
    alerted = Alert.objects.filter(emergency=emergency, user__is_active=True).exclude(entry=None)
    return alerted.exclude(reply=Reply.REJECTED).user_ids()


def faults(now: datetime) -> Iterator[str]:
    """Return what contradicts the invariant, a sentence for each emergency."""
    for emergency in Emergency.objects.open().unattended():
        yield f"{emergency.pk} is {emergency.status} and nothing is due for it"
    for emergency in Emergency.objects.open().overdue(now - OVERDUE_AFTER):
        late_s = (now - (emergency.next_deadline or now)).total_seconds()
        yield f"{emergency.pk} is {emergency.status} and its deadline passed {late_s:.0f} s ago"


def open_count() -> int:
    return Emergency.objects.filter(status__in=OPEN).count()
