"""Escalate emergencies that nobody accepts, and end diversions on time.

What is due stands in rows; the server that locks a row first does the work.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet
from django.utils import timezone

from emergency import audience, messages, timeline
from emergency.current_state import state_of
from emergency.models import Emergency, EntryKind
from hplus.accounts.models import Hospital, Role, User
from hplus.notifications.actions import notify
from hplus.realtime import groups
from hplus.realtime.actions import action, publish

HIGHEST_LEVEL = 2
MAX_ESCALATED = 100


def escalate_due() -> int:
    """Escalate the pending emergencies that are due by one level. Returns how many."""
    due = emergencies_to_escalate(timezone.now()).order_by("escalate_at")
    return sum(_escalate(pk) for pk in list(due.values_list("pk", flat=True)[:MAX_ESCALATED]))


def emergencies_to_escalate(now: datetime) -> QuerySet[Emergency]:
    return Emergency.objects.filter(escalate_at__lte=now)


@action
def _escalate(emergency_id: str) -> bool:
    """Level 1 alerts all staff; level 2 notifies the admins, and again each time it is due."""
    now = timezone.now()
    claimed = Emergency.objects.select_for_update(skip_locked=True, of=("self",)).filter(
        pk=emergency_id, escalate_at__lte=now
    )
    emergency = claimed.first()
    if emergency is None:
        return False
    emergency.escalation_level = min(emergency.escalation_level + 1, HIGHEST_LEVEL)
    emergency.escalate_at = emergency.next_escalation_at()
    emergency.save_change()
    timeline.add_entry(emergency, EntryKind.ESCALATED, None, {"level": emergency.escalation_level}, now)
    audience.alert_remaining(emergency, now)
    if emergency.escalation_level == HIGHEST_LEVEL:
        _notify_admins(emergency)
    return True


def _notify_admins(emergency: Emergency) -> None:
    admins = User.objects.staff_of(emergency.hospital_id).filter(role=Role.ADMIN)
    waited_s = round((timezone.now() - emergency.requested_at).total_seconds())
    waiting = f"{waited_s // 60} min" if waited_s >= 120 else f"{waited_s} s"
    notify(
        admins.values_list("pk", flat=True),
        category="emergencyEscalated",
        title="Nobody has accepted an emergency",
        body=f"{emergency.priority}: {emergency.condition[:200]} (waiting for {waiting})",
        priority="urgent",
        data={"emergencyId": emergency.pk, "emergency": state_of(emergency).as_json()},
    )


def end_diversions() -> int:
    """End the diversions whose `until` has passed. Returns how many."""
    over = hospitals_to_reopen(timezone.now())
    return sum(_end_diversion(pk) for pk in list(over.values_list("pk", flat=True)))


def hospitals_to_reopen(now: datetime) -> QuerySet[Hospital]:
    return Hospital.objects.filter(is_on_diversion=True, diversion_until__lte=now)


@action
def _end_diversion(hospital_id: str) -> bool:
    now = timezone.now()
    due = Hospital.objects.filter(pk=hospital_id, is_on_diversion=True, diversion_until__lte=now)
    if not due.update(is_on_diversion=False, diversion_reason="", diversion_until=None):
        return False
    status = messages.HospitalStatus(
        hospital_id=hospital_id, on_diversion=False, reason=None, until=None, updated_by=None, timestamp=now
    )
    publish(status, groups.staff(hospital_id), groups.announcements(hospital_id))
    return True
