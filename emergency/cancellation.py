"""Cancelling somebody else's call for help: the caller hears of it and may object, the admins of several."""

from __future__ import annotations

from datetime import datetime, timedelta

from emergency import audience, timeline
from emergency.current_state import status_change
from emergency.models import Emergency, Entry, EntryKind, HospitalPolicy
from emergency.sharing import share_locations
from emergency.status import Status
from hplus import errors
from hplus.accounts.models import User
from hplus.notifications.actions import notify
from hplus.protocol.wire import rfc3339

COUNTED_WITHIN = timedelta(minutes=10)
SEVERAL = 3  # cancellations by one person in that time, and each as many more


def announce_cancellation(emergency: Emergency, user: User, now: datetime) -> None:
    """Notify the requester of a cancellation by others, and the admins where one person makes several."""
    if user.pk == emergency.requested_by_id:
        return
    limit = HospitalPolicy.of(emergency.hospital_id).limit("object")
    notify(
        [emergency.requested_by_id],
        category="emergencyCancelled",
        title="Your call for help was cancelled",
        body=f"{emergency.hospital.name} has cancelled it. If you still need help, object now.",
        priority="urgent",
        data={"emergencyId": emergency.pk, "objectUntil": rfc3339(now + limit)},
    )
    count = _cancelled_by(user, now)
    if count % SEVERAL == 0:
        _notify_admins(emergency, user, count)


def _cancelled_by(user: User, now: datetime) -> int:
    """How many emergencies of others this person has cancelled lately."""
    lately = Entry.objects.filter(by=user, kind=EntryKind.STATUS, at__gt=now - COUNTED_WITHIN)
    cancelled = lately.filter(data__status=Status.CANCELLED).exclude(data__previousStatus=Status.CANCELLED)
    return cancelled.exclude(emergency__requested_by=user).count()


def _notify_admins(emergency: Emergency, user: User, count: int) -> None:
    minutes = round(COUNTED_WITHIN.total_seconds() / 60)
    notify(
        set(audience.dispatchers(emergency.hospital_id)) - {user.pk},
        category="severalCancellations",
        title="One person cancels several calls for help",
        body=f"{user.display_name} has cancelled {count} calls of others in {minutes} minutes.",
        priority="urgent",
        data={"userId": user.pk, "count": count, "emergencyId": emergency.pk},
    )


def reopen(emergency: Emergency, user: User, reason: str, now: datetime) -> None:
    """Make a cancelled emergency pending again, as its requester objects, and alert the staff anew.

    Raises Forbidden (not the requester) or InvalidTransition (not cancelled by others, or too late).
    """
    if user.pk != emergency.requested_by_id:
        raise errors.Forbidden("Only who called may object to the cancellation.")
    if not _may_object(emergency, now):
        raise errors.InvalidTransition(
            "There is no cancellation by others to object to any more.", status=emergency.status
        )
    emergency.cancelled_at = None
    emergency.reset_to_pending(emergency.next_escalation_at())
    emergency.save_change()
    share_locations(emergency)
    change = status_change(emergency, user, now, Status.CANCELLED, notes=reason)
    entry = timeline.add_entry(emergency, EntryKind.STATUS, user, change, now)
    audience.publish_status(entry, emergency=emergency)
    alerted = {*audience.users_to_alert(emergency), *audience.staff_alerted_before(emergency)}
    audience.alert(emergency, alerted, now)


def _may_object(emergency: Emergency, now: datetime) -> bool:
    cancelled_at = emergency.cancelled_at
    if cancelled_at is None or now - cancelled_at > HospitalPolicy.of(emergency.hospital_id).limit("object"):
        return False
    latest = Entry.objects.filter(emergency=emergency, kind=EntryKind.STATUS, data__status=Status.CANCELLED)
    cancelled = latest.order_by("-at").first()
    return cancelled is not None and cancelled.by_id != emergency.requested_by_id
