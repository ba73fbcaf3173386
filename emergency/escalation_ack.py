"""A dispatcher has seen that nobody accepts, or that an emergency stalls: nobody is asked for a while."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from emergency import audience, messages, timeline
from emergency.actions import lock_emergency
from emergency.models import Emergency, EntryKind
from emergency.timeline import has_told_often
from hplus import errors
from hplus.accounts.models import User
from hplus.realtime import groups
from hplus.realtime.actions import Result, action, publish
from hplus.realtime.groups import Group

QUIET_FOR = timedelta(minutes=5)
FROM_LEVEL = 2  # from there on the dispatchers are asked


@action
def acknowledge_escalation(user: User, request: messages.AcknowledgeEscalation) -> Result:
    """Move the next deadline five minutes ahead.

    Raises EmergencyNotFound, Forbidden (no dispatcher) or InvalidTransition (no dispatcher was asked).
    """
    emergency, now = lock_emergency(user, request.emergency_id), timezone.now()
    if not audience.is_dispatcher(user, emergency.hospital_id):
        raise errors.Forbidden("Only a dispatcher of the hospital may acknowledge this.")
    if not is_asked(emergency):
        raise errors.InvalidTransition("No dispatcher was asked about it.", status=emergency.status)
    done = Result(ack_data={"emergencyId": emergency.pk})
    if has_told_often(emergency, EntryKind.ACKNOWLEDGED, user, now):
        return done
    until = now + QUIET_FOR
    if emergency.is_underway:
        emergency.check_at, emergency.stalled_cause, emergency.reminders = until, "", 0
    else:
        emergency.escalate_at = until = max(until, emergency.escalate_at or until)
    emergency.save_change()
    acked = messages.EscalationAcked(
        emergency_id=emergency.pk, by=user.pk, at=now, until=until, note=request.note
    )
    entry = timeline.add_entry(emergency, EntryKind.ACKNOWLEDGED, user, acked, now)
    event = messages.EmergencyEscalationAcked.of(entry)
    publish(event, audience.staff_concerned(emergency), *_dispatchers(emergency))
    return done


def is_asked(emergency: Emergency) -> bool:
    """Whether a dispatcher was asked and nobody has acted since."""
    if emergency.is_underway:
        return bool(emergency.stalled_cause)
    return emergency.is_open and emergency.escalation_level >= FROM_LEVEL


def _dispatchers(emergency: Emergency) -> list[Group]:
    return [groups.person(pk) for pk in audience.dispatchers(emergency.hospital_id)]
