"""Notice when an accepted emergency stands still, ask, and release it from who can't be reached.

What is due stands in rows; the server that locks a row first does the work.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import Max, QuerySet
from django.utils import timezone

from emergency import audience, timeline
from emergency.current_state import status_change
from emergency.due import each_alone, ids_in_fair_order
from emergency.models import Emergency, Entry, EntryKind, HospitalPolicy, Reply
from emergency.notices import notify_staff
from emergency.reminders import backed_off
from emergency.sharing import share_locations
from emergency.status import StallCause, Status
from hplus.accounts.models import User
from hplus.realtime import groups
from hplus.realtime.actions import action
from hplus.realtime.hub.presence import connected_among, last_seen
from location.actions import close_grants, has_position_since, last_received_at

GRAVEST_FIRST = (StallCause.UNREACHABLE, StallCause.ACKNOWLEDGE, StallCause.TURNOUT)
TEXTS = {
    StallCause.ACKNOWLEDGE: ("An assignment is not acknowledged", "was assigned and has not acknowledged it"),
    StallCause.TURNOUT: ("Nobody has set out", "has accepted and sent neither a phase nor a position"),
    StallCause.UNREACHABLE: ("A crew can't be reached", "has no connection and sends no position"),
}


def check_due() -> int:
    """Check the assignees of the emergencies that are due. Returns how many had stalled."""
    return each_alone(_check, ids_in_fair_order(emergencies_to_check(timezone.now()), "check_at"))


def emergencies_to_check(now: datetime) -> QuerySet[Emergency]:
    return Emergency.objects.open().filter(check_at__lte=now)


@action
def _check(emergency_id: str) -> bool:
    """Look for the signs of the assignee, and set the time of the next check."""
    now = timezone.now()
    due = emergencies_to_check(now).filter(pk=emergency_id)
    emergency = due.select_for_update(skip_locked=True, of=("self",)).first()
    if emergency is None:
        return False
    if not emergency.is_underway:  # stored so by a server of the version before
        _leave_to_escalation(emergency, now)
        return False
    cause, next_check_at = stall_of(emergency, now)
    if cause is None:
        emergency.stalled_cause, emergency.reminders = "", 0
        emergency.check_at = next_check_at
        emergency.save(update_fields=["stalled_cause", "reminders", "check_at"])
        return False
    if _is_to_release(emergency, cause) and _is_to_release(emergency, emergency.stalled_cause):
        _release(emergency, cause, now)
    else:
        _ask(emergency, cause, now)
    return True


def _leave_to_escalation(emergency: Emergency, now: datetime) -> None:
    emergency.check_at, emergency.escalate_at = None, emergency.escalate_at or now
    emergency.save(update_fields=["check_at", "escalate_at"])


def stall_of(emergency: Emergency, now: datetime) -> tuple[str | None, datetime]:
    """Return why it has stalled, and since when; without a cause, when it would at the earliest.

    Of several causes the first of GRAVEST_FIRST: who has not set out and can't be reached is released.
    """
    deadlines = _deadlines(emergency, now)
    for cause in GRAVEST_FIRST:
        if cause in deadlines and deadlines[cause] <= now:
            return cause, deadlines[cause]
    return None, min(deadlines.values())


def _deadlines(emergency: Emergency, now: datetime) -> dict[str, datetime]:
    """Return when it stalls by each cause that still can be, unless the assignee gives the sign."""
    limits = HospitalPolicy.of(emergency.hospital_id).stall_limits()
    assignee_id, accepted_at = emergency.assigned_to_id, emergency.accepted_at or emergency.requested_at
    assert assignee_id is not None  # a constraint
    began_at = {StallCause.UNREACHABLE: _last_sign(emergency, assignee_id, accepted_at, now)}
    if emergency.acknowledged_at is None:
        began_at[StallCause.ACKNOWLEDGE] = accepted_at
    elif emergency.status == Status.ACCEPTED and not has_position_since(
        assignee_id, emergency.pk, accepted_at
    ):
        began_at[StallCause.TURNOUT] = max(accepted_at, emergency.acknowledged_at)
    return {str(cause): at + limits[cause] for cause, at in began_at.items()}


def _last_sign(emergency: Emergency, assignee_id: str, accepted_at: datetime, now: datetime) -> datetime:
    """Return when the assignee was last connected, sent a position, or did something about this emergency."""
    if connected_among([assignee_id]):
        return now
    own = Entry.objects.filter(emergency=emergency, by=assignee_id).aggregate(last=Max("at"))["last"]
    signs = (accepted_at, own, last_seen(assignee_id), last_received_at(assignee_id))
    return max(sign for sign in signs if sign is not None)


def _is_to_release(emergency: Emergency, cause: str) -> bool:
    """Whether this cause releases it, not from who can be reached, and not with the patient on board.

    Asked about the cause now and the one before: whoever was asked is not asked anew because it has changed.
    """
    if emergency.is_with_patient:
        return False
    return cause in (StallCause.ACKNOWLEDGE, StallCause.UNREACHABLE)


def _ask(emergency: Emergency, cause: str, now: datetime) -> None:
    """Notify the dispatchers and the assignee, and check again after as long, then rarer."""
    is_new = cause != emergency.stalled_cause
    emergency.reminders = 0 if is_new else emergency.reminders + 1
    emergency.stalled_cause = cause
    limit = HospitalPolicy.of(emergency.hospital_id).stall_limits()[cause]
    emergency.check_at = now + backed_off(limit, emergency.reminders)
    emergency.save_change()
    data = {"cause": cause, "userId": emergency.assigned_to_id, "reminders": emergency.reminders}
    timeline.add_entry(emergency, EntryKind.STALLED, None, data, now)
    _notify_stalled(emergency, cause)


def _notify_stalled(emergency: Emergency, cause: str) -> None:
    assignee = emergency.assigned_to
    assert assignee is not None
    title, what = TEXTS[StallCause(cause)]
    notify_staff(
        emergency,
        {*audience.dispatchers(emergency.hospital_id), assignee.pk},
        category="emergencyStalled",
        title=title,
        body=f"{emergency.priority}: {emergency.condition[:200]} ({assignee.display_name} {what})",
        body_without_chart=f"{emergency.priority} ({assignee.display_name} {what})",
        data={"emergencyId": emergency.pk, "cause": cause},
        renews="emergencyId",
    )


def _release(emergency: Emergency, cause: str, now: datetime) -> None:
    """Take it from the assignee, make it pending again and alert the others."""
    former, previous = emergency.assigned_to, emergency.status
    assert former is not None
    emergency.reset_to_pending(emergency.next_escalation_at())
    emergency.save_change()
    close_grants(emergency.pk, "released", subject_id=former.pk)
    share_locations(emergency)
    audience.store_reply(emergency, former, str(Reply.NONE), now)
    timeline.add_entry(emergency, EntryKind.RELEASED, None, {"cause": cause, "userId": former.pk}, now)
    change = status_change(emergency, None, now, previous, notes=_reason(former, cause))
    entry = timeline.add_entry(emergency, EntryKind.STATUS, None, change, now)
    audience.publish_status(entry, groups.person(former.pk), emergency=emergency)
    others = {*audience.users_to_alert(emergency), *audience.staff_alerted_before(emergency)} - {former.pk}
    audience.alert(emergency, others, now)


def _reason(former: User, cause: str) -> str:
    return f"Released by HPlus: {former.display_name} {TEXTS[StallCause(cause)][1]}."
