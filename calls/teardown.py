"""Leave and end a call: reject, hang up, miss it, lose the connection; and the notice of a missed call."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from calls import messages
from calls.models import OPEN, Call, CallStatus, Participant, ParticipantStatus
from hplus.accounts.models import User
from hplus.notifications.actions import notify
from hplus.notifications.models import Notification
from hplus.protocol import wire
from hplus.realtime import groups
from hplus.realtime.actions import action, publish


def reject(call: Call, person: Participant, reason: str | None, caused_by: str = "") -> None:
    """Decline for a participant who rings; publish it to the others and the participant's other devices."""
    others = groups_of(call, but=person)
    _remove(call, person, ParticipantStatus.REJECTED, CallStatus.REJECTED, reason or "rejected")
    record = messages.CallRecord.of(call)
    publish(
        messages.CallRejected(call_id=call.pk, user_id=person.user_id, reason=reason, data=record),
        *others,
    )
    publish(
        messages.CallAnsweredElsewhere(call_id=call.pk, outcome="rejected", caused_by=caused_by),
        groups.person(person.user_id),
    )


def decline_as_busy(calls: list[Call], user: User) -> None:
    """Decline these calls for a user who takes another one; each becomes a missed call."""
    for call in calls:
        person = call.participant(user.pk)
        if person is not None and person.is_ringing:
            reject(call, person, "busy")
            notify_missed(person)


def hang_up(call: Call, person: Participant, reason: str | None, caused_by: str = "") -> None:
    """Take a participant out of the call; before an answer, the caller cancels it."""
    end_reason = reason or ("hungUp" if call.is_answered else "cancelled")
    _leave(call, person, ParticipantStatus.LEFT, CallStatus.CANCELLED, reason, end_reason, caused_by)


def miss(call: Call, person: Participant) -> None:
    """End the ringing for a participant who has not answered in time."""
    _leave(call, person, ParticipantStatus.MISSED, CallStatus.MISSED, "missed", "missed")


def drop(call: Call, person: Participant) -> None:
    """Take out a participant without a connection for CALL_DROPPED_SECONDS."""
    _leave(call, person, ParticipantStatus.LEFT, CallStatus.FAILED, "dropped", "dropped")


def _leave(
    call: Call,
    person: Participant,
    status: str,
    unanswered: str,
    reason: str | None,
    end_reason: str,
    caused_by: str = "",
) -> None:
    """Take a participant out, and publish it to everybody in the call, also to the participant's devices."""
    audience = groups_of(call)
    _remove(call, person, status, unanswered, end_reason)
    publish(
        messages.CallEnded(
            call_id=call.pk,
            caused_by=caused_by,
            user_id=person.user_id,
            reason=reason,
            data=messages.CallRecord.of(call),
        ),
        *audience,
    )


def groups_of(call: Call, but: Participant | None = None) -> list[groups.Group]:
    """Return the groups of those who are in the call or ring."""
    return [groups.person(one.user_id) for one in call.present() if one is not but]


def _remove(call: Call, person: Participant, status: str, unanswered: str, end_reason: str) -> None:
    """Take a participant out, and end the call when at most one is left.

    `unanswered` is the status of a call that ends before anybody accepted it.
    """
    _set_left(person, status)
    if not call.joined() or len(call.present()) < 2:
        for one in call.present():
            _set_left(one, ParticipantStatus.LEFT if one.has_joined else ParticipantStatus.MISSED)
        call.status = CallStatus.ENDED if call.is_answered else unanswered
        call.end_reason, call.ended_at = end_reason, timezone.now()
        call.save(update_fields=["status", "end_reason", "ended_at"])


def _set_left(person: Participant, status: str) -> None:
    person.leave_as(status)
    person.save(update_fields=["status", "left_at", "ring_due_at", "dropped_due_at"])
    if status == ParticipantStatus.MISSED:
        notify_missed(person)


def notify_missed(person: Participant) -> None:
    """Notify a person of a missed call, after an absence or another call; of one caller's in one notice."""
    call, caller = person.call, person.invited_by
    assert caller is not None
    count = 1 + _unread_from(person.user_id, caller.pk)
    times = f" {count} times" if count > 1 else ""
    notify(
        [person.user_id],
        category="missedCall",
        title="Missed call",
        body=f"{caller.display_name} called you{times}.",
        data={
            "callId": call.pk,
            "callType": call.call_type,
            "callerId": caller.pk,
            "callerName": caller.display_name,
            "callerRole": caller.role,
            "hospitalId": call.hospital_id,
            "emergencyId": call.emergency_id or None,
            "startedAt": wire.rfc3339(call.started_at),
            "count": count,
        },
        renews="callerId",
    )


def _unread_from(user_id: str, caller_id: str) -> int:
    """How many calls the unread notice of this caller's missed calls counts."""
    unread = Notification.objects.filter(recipient=user_id, read_at=None, category="missedCall")
    notice = unread.filter(data__callerId=caller_id).order_by("-pk").first()
    return int(notice.data.get("count", 1)) if notice else 0


@action
def leave_all(user: User) -> None:
    """Take a person who moves to another place out of every call, also out of those that ring."""
    mine = Participant.objects.filter(user=user, call__status__in=OPEN)
    for call_id in sorted(set(mine.values_list("call", flat=True))):
        call = Call.objects.select_for_update(of=("self",)).get(pk=call_id)
        for person in [one for one in call.present() if one.user_id == user.pk]:
            hang_up(call, person, "moved")


# Periodic jobs: what is due stands in rows, so that a restart loses none; a row lock lets one server do it


def mark_missed_calls() -> int:
    """End the ringing of participants after HPLUS_RING_SECONDS. Returns how many."""
    due = unanswered(timezone.now()).values_list("call", flat=True)
    return sum(_mark_missed_in(call_id) for call_id in sorted(set(due[:200])))


def unanswered(now: datetime) -> QuerySet[Participant]:
    """Return the participants who have been called for long enough."""
    return Participant.objects.filter(status=ParticipantStatus.RINGING, ring_due_at__lte=now)


@action
def _mark_missed_in(call_id: str) -> int:
    call = _claim(call_id)
    ringing = [one for one in call.people if one.is_ringing] if call else []
    due = [one for one in ringing if one.ring_due_at and one.ring_due_at <= timezone.now()]
    for person in due:
        assert call is not None
        miss(call, person)
    return len(due)


def drop_lost_participants() -> int:
    """Take out participants without a connection for CALL_DROPPED_SECONDS. Returns how many."""
    joined = Participant.objects.joined()
    returned = joined.with_connection().filter(dropped_due_at__isnull=False)
    lost = joined.without_connection().filter(dropped_due_at=None)
    due_at = timezone.now() + timedelta(seconds=settings.CALL_DROPPED_SECONDS)
    _set_dropped_due(list(returned.values_list("pk", flat=True)), None)
    _set_dropped_due(list(lost.values_list("pk", flat=True)), due_at)
    due = joined.without_connection().filter(dropped_due_at__lte=timezone.now())
    return sum(_drop_from(call_id) for call_id in sorted(set(due.values_list("call", flat=True)[:200])))


def maybe_lost(_now: datetime) -> QuerySet[Participant]:
    """Return participants without a connection, and those who were without one."""
    joined = Participant.objects.joined()
    return joined.without_connection() | joined.filter(dropped_due_at__isnull=False)


def _set_dropped_due(participants: list[int], due_at: object) -> None:
    """Update one by one, because other transactions may have locked some of these rows."""
    for pk in participants:
        Participant.objects.joined().filter(pk=pk).update(dropped_due_at=due_at)


@action
def _drop_from(call_id: str) -> int:
    call = _claim(call_id)
    due = call.participants.joined().without_connection() if call else Participant.objects.none()
    overdue = set(due.filter(dropped_due_at__lte=timezone.now()).values_list("pk", flat=True))
    for person in [one for one in call.people if one.pk in overdue] if call else []:
        assert call is not None
        if person.has_joined:  # the first one taken out may have ended the call
            drop(call, person)
    return len(overdue)


def _claim(call_id: str) -> Call | None:
    """Lock and return the call; None where another transaction has it locked."""
    unlocked = Call.objects.select_for_update(skip_locked=True, of=("self",))
    return unlocked.filter(pk=call_id).first()
