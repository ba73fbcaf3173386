"""How people leave a call, how it ends, and what they hear of a call they missed."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from calls import messages
from calls.models import Call, CallStatus, Part, Participant
from hplus.notifications.actions import notify
from hplus.protocol import wire
from hplus.realtime import groups
from hplus.realtime.actions import action, publish


def reject(call: Call, person: Participant, reason: str | None, asked_by: str = "") -> None:
    """Somebody who was ringing does not want to; the others and their own other devices hear it."""
    others = everyone(call, but=person)
    _take_out(call, person, Part.REJECTED, CallStatus.REJECTED, reason or "rejected")
    record = messages.CallRecord.of(call)
    publish(
        messages.CallRejected(call_id=call.pk, user_id=person.user_id, reason=reason, data=record),
        *others,
    )
    publish(
        messages.CallAnsweredElsewhere(call_id=call.pk, outcome="rejected", asked_by=asked_by),
        groups.person(person.user_id),
    )


def hang_up(call: Call, person: Participant, reason: str | None, asked_by: str = "") -> None:
    """Somebody who is in the call leaves it; the caller, while it rings, takes it back."""
    word = reason or ("hungUp" if call.is_answered else "cancelled")
    _go(call, person, Part.LEFT, CallStatus.CANCELLED, reason, word, asked_by)


def miss(call: Call, person: Participant) -> None:
    """Somebody's devices have rung long enough."""
    _go(call, person, Part.MISSED, CallStatus.MISSED, "missed", "missed")


def drop(call: Call, person: Participant) -> None:
    """Somebody's sockets have been gone for too long."""
    _go(call, person, Part.LEFT, CallStatus.FAILED, "dropped", "dropped")


def _go(
    call: Call,
    person: Participant,
    part: str,
    unanswered: str,
    reason: str | None,
    end_reason: str,
    asked_by: str = "",
) -> None:
    """Out, and everyone who was there hears it: the own other devices too."""
    audience = everyone(call)
    _take_out(call, person, part, unanswered, end_reason)
    publish(
        messages.CallEnded(
            call_id=call.pk,
            asked_by=asked_by,
            user_id=person.user_id,
            reason=reason,
            data=messages.CallRecord.of(call),
        ),
        *audience,
    )


def everyone(call: Call, but: Participant | None = None) -> list[groups.Group]:
    """All devices of those who are in the call or ring."""
    return [groups.person(one.user_id) for one in call.present() if one is not but]


def _take_out(call: Call, person: Participant, part: str, unanswered: str, end_reason: str) -> None:
    """Where at most one is left the call is over: `unanswered` if nobody ever took it."""
    _let_go(person, part)
    if not call.joined() or len(call.present()) < 2:
        for one in call.present():
            _let_go(one, Part.LEFT if one.has_joined else Part.MISSED)
        call.status = CallStatus.ENDED if call.is_answered else unanswered
        call.end_reason, call.ended_at = end_reason, timezone.now()
        call.save(update_fields=["status", "end_reason", "ended_at"])


def _let_go(person: Participant, part: str) -> None:
    person.go(part)
    person.save(update_fields=["status", "left_at", "ring_due_at", "dropped_due_at"])
    if part == Part.MISSED:
        notify_missed(person)


def notify_missed(person: Participant) -> None:
    """There was a call for you: what somebody finds who was away or in another call."""
    call, caller = person.call, person.invited_by
    assert caller is not None
    notify(
        [person.user_id],
        category="missedCall",
        title="Missed call",
        body=f"{caller.display_name} called you.",
        data={
            "callId": call.pk,
            "callType": call.call_type,
            "callerId": caller.pk,
            "callerName": caller.display_name,
            "callerRole": caller.role,
            "hospitalId": call.hospital_id,
            "emergencyId": call.emergency_id or None,
            "startedAt": wire.rfc3339(call.started_at),
        },
    )


# Duties: due rows, so that a restart loses none, each claimed once however many servers run


def mark_missed_calls() -> int:
    """Whoever has rung for the ring time has missed the call. Returns how many."""
    due = Participant.objects.filter(status=Part.RINGING, ring_due_at__lte=timezone.now())
    return sum(_miss_in(call_id) for call_id in sorted(set(due.values_list("call", flat=True)[:200])))


@action
def _miss_in(call_id: str) -> int:
    call = _claimed(call_id)
    ringing = [one for one in call.people if one.is_ringing] if call else []
    due = [one for one in ringing if one.ring_due_at and one.ring_due_at <= timezone.now()]
    for person in due:
        assert call is not None
        miss(call, person)
    return len(due)


def drop_lost_participants() -> int:
    """Whoever has been without any socket for the grace has left the call. Returns how many."""
    joined = Participant.objects.joined()
    back = joined.with_socket().filter(dropped_due_at__isnull=False)
    gone = joined.without_socket().filter(dropped_due_at=None)
    due_at = timezone.now() + timedelta(seconds=settings.CALL_DROPPED_SECONDS)
    _mark(list(back.values_list("pk", flat=True)), None)
    _mark(list(gone.values_list("pk", flat=True)), due_at)
    due = joined.without_socket().filter(dropped_due_at__lte=timezone.now())
    return sum(_drop_from(call_id) for call_id in sorted(set(due.values_list("call", flat=True)[:200])))


def _mark(participants: list[int], due_at: object) -> None:
    """One by one, for a deed may hold some of these rows."""
    for pk in participants:
        Participant.objects.joined().filter(pk=pk).update(dropped_due_at=due_at)


@action
def _drop_from(call_id: str) -> int:
    call = _claimed(call_id)
    due = call.participants.joined().without_socket() if call else Participant.objects.none()
    overdue = set(due.filter(dropped_due_at__lte=timezone.now()).values_list("pk", flat=True))
    for person in [one for one in call.people if one.pk in overdue] if call else []:
        assert call is not None
        if person.has_joined:  # the first to go may have ended it for all
            drop(call, person)
    return len(overdue)


def _claimed(call_id: str) -> Call | None:
    """The call, unless somebody is at it this moment."""
    unlocked = Call.objects.select_for_update(skip_locked=True, of=("self",))
    return unlocked.filter(pk=call_id).first()
