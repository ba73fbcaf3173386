"""Escalate emergencies that nobody accepts, and end diversions on time.

What is due stands in rows; the server that locks a row first does the work.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from django.db.models import QuerySet
from django.utils import timezone

from emergency import audience, messages, mutual_aid, timeline
from emergency.due import each_alone, ids_in_fair_order
from emergency.models import Emergency, EntryKind, HospitalPolicy
from emergency.notices import notify_staff
from emergency.reminders import backed_off
from emergency.unanswered import tell_requester
from hplus.accounts.models import Hospital
from hplus.realtime import groups
from hplus.realtime.actions import action, publish

logger = logging.getLogger(__name__)
ALL_STAFF, DISPATCHERS, MUTUAL_AID = 1, 2, 3  # whom each level adds
BATCH = 10  # in one transaction, which holds their rows until its commit


def escalate_due() -> int:
    """Escalate the pending emergencies that are due by one level, in a fair order. Returns how many."""
    ids = ids_in_fair_order(emergencies_to_escalate(timezone.now()), "escalate_at")
    return sum(_escalate_batch(ids[start : start + BATCH]) for start in range(0, len(ids), BATCH))


def emergencies_to_escalate(now: datetime) -> QuerySet[Emergency]:
    return Emergency.objects.filter(escalate_at__lte=now)


def _escalate_batch(ids: Sequence[str]) -> int:
    """Escalate these in one transaction; where that fails, each in its own. Returns how many."""
    try:
        return _escalate_all(ids)
    except Exception:
        logger.exception("A batch of escalations failed and is repeated one by one")
    return each_alone(lambda emergency_id: _escalate_all([emergency_id]), ids)


@action
def _escalate_all(ids: Sequence[str]) -> int:
    """Lock those that no other server has, in the order of their ids, so that no two actions deadlock."""
    now = timezone.now()
    due = emergencies_to_escalate(now).filter(pk__in=ids).order_by("pk")
    claimed = list(due.select_for_update(skip_locked=True, of=("self",)))
    for emergency in claimed:
        _escalate(emergency, now)
    return len(claimed)


def _escalate(emergency: Emergency, now: datetime) -> None:
    """Level 1 alerts all staff, 2 asks the dispatchers and tells the requester, 3 alerts other hospitals.

    At the highest level it repeats, rarer each time.
    """
    policy = HospitalPolicy.of(emergency.hospital_id)
    helpers = mutual_aid.helping_hospitals(policy)
    highest = MUTUAL_AID if helpers else DISPATCHERS
    is_repeated = emergency.escalation_level >= highest
    emergency.reminders = emergency.reminders + 1 if is_repeated else 0
    emergency.escalation_level = min(emergency.escalation_level + 1, highest)
    emergency.escalate_at = now + backed_off(policy.escalation_delay(emergency.priority), emergency.reminders)
    emergency.save_change()
    level = emergency.escalation_level
    data = {"level": level, "reminders": emergency.reminders}
    timeline.add_entry(emergency, EntryKind.ESCALATED, None, data, now)
    audience.alert_remaining(emergency, now)
    if level >= DISPATCHERS:
        _ask_dispatchers(emergency)
    if level == DISPATCHERS and not is_repeated:
        tell_requester(emergency)
    if level >= MUTUAL_AID:
        mutual_aid.ask_for_help(emergency, helpers, now)


def _ask_dispatchers(emergency: Emergency) -> None:
    waited_s = round((timezone.now() - emergency.requested_at).total_seconds())
    waiting = f"{waited_s // 60} min" if waited_s >= 120 else f"{waited_s} s"
    notify_staff(
        emergency,
        audience.dispatchers(emergency.hospital_id),
        category="emergencyEscalated",
        title="Nobody has accepted an emergency",
        body=f"{emergency.priority}: {emergency.condition[:200]} (waiting for {waiting})",
        body_without_chart=f"{emergency.priority} (waiting for {waiting})",
        data={"emergencyId": emergency.pk, "escalationLevel": emergency.escalation_level},
        renews="emergencyId",
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
