"""Start a call: who may be called, who is busy, and what happens when two call each other at once."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.module_loading import import_string

from calls import messages, teardown
from calls.models import Call, CallStatus, Participant, ParticipantStatus, Urgency
from hplus import errors
from hplus.accounts.actions import must_be_counterpart
from hplus.accounts.models import User
from hplus.protocol import wire
from hplus.push.actions import Wakeup
from hplus.realtime import groups
from hplus.realtime.actions import Result, action, publish
from hplus.realtime.idempotency import Idempotency, content_of
from hplus.realtime.publishing.push_wakeups import push_to_absent


def initiate(user: User, request: messages.InitiateCall, connection_id: str) -> Result:
    """Start a call; all devices of the callees ring.

    Raises UserNotFound, HospitalNotFound, HospitalMismatch, Forbidden (two patients in a call), CallBusy
    (all callees are in calls), CallInvalidState (the caller is in a call) or IdempotencyConflict.
    """
    _must_not_be_too_many(user, request)
    outcome = _set_up(user, request, connection_id)
    if isinstance(outcome, errors.Refusal):
        raise outcome
    return outcome


@action
def _set_up(user: User, request: messages.InitiateCall, connection_id: str) -> Result | errors.Refusal:
    """Return CallBusy instead of raising it, so that the call is stored and the callees get a missed call."""
    callees, hospital_id = _callees(user, request)
    lock_users([user, *callees])
    settled = _repetition_of(user, request) or _resolve_present_call(user, request, connection_id)
    if settled is not None:
        return settled
    call = Call(
        call_type=request.call_type,
        initiator=user,
        hospital_id=hospital_id,
        emergency_id=request.emergency_id or "",
        is_about_emergency=is_open_emergency_of(user, request.emergency_id),
    )
    _must_not_insist(call, callees)
    call.save(force_insert=True)
    _add_participants(call, user, request, connection_id, callees)
    if len(call.present()) < 2:
        return _end_as_busy(call)
    _agree(call, call.people[0])
    ring(call.present()[1:], request.offer)
    return _initiated(call, user)


# Callees


def _must_not_be_too_many(user: User, request: messages.InitiateCall) -> None:
    """Raise Forbidden: only staff ring several people at once."""
    if user.is_patient and len(request.callee_ids) > 1:
        raise errors.Forbidden("Only staff may call several people at once.")


def _must_not_insist(call: Call, callees: list[User]) -> None:
    """Raise RateLimited where the caller has rung for one of them often enough without an answer.

    A call about an open emergency is never too often.
    """
    if call.urgency == Urgency.EMERGENCY:
        return
    window = timedelta(seconds=settings.UNANSWERED_CALLS_SECONDS)
    now = timezone.now()
    tried = Participant.objects.unanswered_since(now - window).filter(
        invited_by=call.initiator, user__in=callees
    )
    times: defaultdict[str, list[datetime]] = defaultdict(list)
    for user_id, started_at in tried.order_by("call__started_at").values_list("user", "call__started_at"):
        times[user_id].append(started_at)
    for started in times.values():
        if len(started) >= settings.UNANSWERED_CALLS:
            free_at = started[-settings.UNANSWERED_CALLS] + window
            raise errors.RateLimited(retry_after=(free_at - now).total_seconds())


def is_open_emergency_of(user: User, emergency_id: str | None) -> bool:
    """Whether this emergency is open and the user part of it; `settings.EMERGENCY_OF_CALL` knows."""
    return bool(emergency_id) and bool(import_string(settings.EMERGENCY_OF_CALL)(user, emergency_id))


def _callees(user: User, request: messages.InitiateCall) -> tuple[list[User], str]:
    """The users to call, and the hospital of the call: that of the staff member among the two sides."""
    found = User.objects.in_bulk(request.callee_ids)
    hospital_id = request.hospital_id or _hospital_of(user, found.get(request.callee_ids[0]))
    callees = [must_be_counterpart(user, found.get(pk), hospital_id) for pk in request.callee_ids]
    if len([one for one in [user, *callees] if one.is_patient]) > 1:
        raise errors.Forbidden("Two patients never meet in a call.")
    return callees, hospital_id


def _hospital_of(user: User, callee: User | None) -> str:
    """The hospital where these two would talk. Raises UserNotFound where there is none."""
    staff = callee if user.is_patient else user
    hospital_id = staff and staff.hospital_id
    if not hospital_id and callee != user:
        raise errors.UserNotFound()
    return hospital_id or ""


def lock_users(users: list[User]) -> None:
    """Lock these users, in the order of their ids, so that no other call with them starts meanwhile."""
    rows = User.objects.select_for_update(no_key=True).filter(pk__in=[user.pk for user in users])
    list(rows.order_by("pk").values_list("pk", flat=True))


def busy_among(users: list[User], call: Call) -> set[str]:
    """Return the userIds of those who talk, or whose line rings for something more urgent than this call.

    A line that only rings is not busy: else whoever lets it ring would keep it from everybody else.
    """
    present = Participant.objects.present().filter(user__in=users).exclude(call=call)
    return {
        one.user_id
        for one in present.select_related("call__initiator")
        if one.has_joined or one.call.urgency > call.urgency
    }


def ring(callees: list[Participant], offer: messages.Description | None = None) -> None:
    """Ring on all devices; those without a connection get a push, and `callInitiate` when they connect."""
    for callee in callees:
        publish(messages.IncomingCall.of(callee, offer), groups.person(callee.user_id))
    push_to_absent([Wakeup(one.user_id, "incomingCall", one.call_id, wire.new_id()) for one in callees])


# Repetitions, and a call that is there already


def _content(request: messages.InitiateCall) -> dict[str, Any]:
    """The content without the offer: a phone that tries again may have made a new one."""
    return {name: value for name, value in content_of(request).items() if name != "offer"}


IDEMPOTENCY = Idempotency(Participant, requester="user", content=_content)


def _repetition_of(user: User, request: messages.InitiateCall) -> Result | errors.Refusal | None:
    """The first result again for a request with the same clientMessageId; None for a new request."""
    first = IDEMPOTENCY.first_row(user, request)
    if first is None:
        return None
    if first.call.status == CallStatus.BUSY:
        return errors.CallBusy(callId=first.call_id)
    return _initiated(first.call, user, is_duplicate=True)


def _resolve_present_call(user: User, request: messages.InitiateCall, connection_id: str) -> Result | None:
    """Resolve the calls that the caller is in or that ring; None where a new call may start.

    A callee who calls back joins the call that rings. Other calls that ring are rejected as busy, and one
    whose device has gone is left. The same call tapped twice gives the first result. Raises CallInvalidState
    where the caller is in a call.
    """
    results = [_resolve(call, user, request, connection_id) for call in lock_calls_of(user)]
    return next(filter(None, results), None)


def _resolve(call: Call, user: User, request: messages.InitiateCall, connection_id: str) -> Result | None:
    mine = call.participant(user.pk)
    if mine is None or not mine.is_present:
        return None
    is_same = {one.user_id for one in call.people} == {user.pk, *request.callee_ids}
    if is_same and mine.is_ringing and call.initiator_id in request.callee_ids:
        mine.client_message_id, mine.fingerprint = request.client_message_id, IDEMPOTENCY.fingerprint(request)
        join(call, mine, connection_id)
        return _initiated(call, user)
    if mine.is_ringing:
        teardown.reject(call, mine, "busy")
        return None
    if not mine.is_connected:
        teardown.hang_up(call, mine, None)
        return None
    if is_same and call.initiator_id == user.pk and not call.is_answered:  # tapped twice
        return _initiated(call, user, is_duplicate=True)
    raise errors.CallInvalidState("You are in a call.", callId=call.pk)


def lock_calls_of(user: User) -> list[Call]:
    """Lock the calls that the user is in or that ring, in the order of their ids; the user is locked before.

    The one the user talks in comes first.
    """
    present = Participant.objects.present().filter(user=user).values("call")
    calls = Call.objects.select_for_update(of=("self",)).filter(pk__in=present).order_by("pk")
    return sorted(calls, key=lambda call: not _talks_in(call, user))


def _talks_in(call: Call, user: User) -> bool:
    mine = call.participant(user.pk)
    return mine is not None and mine.has_joined


# Participants


def _add_participants(
    call: Call, user: User, request: messages.InitiateCall, connection_id: str, callees: list[User]
) -> None:
    caller = Participant(
        call=call,
        user=user,
        client_message_id=request.client_message_id,
        fingerprint=IDEMPOTENCY.fingerprint(request),
    )
    caller.join(connection_id)
    call.people = [caller]
    busy = busy_among(callees, call)
    for callee in callees:
        called = Participant(call=call, user=callee)
        called.ring(by=user)
        if callee.pk in busy:
            called.leave_as(ParticipantStatus.BUSY)
        call.people.append(called)
    Participant.objects.bulk_create(call.people)
    for called in call.people:
        if called.status == ParticipantStatus.BUSY:
            teardown.notify_missed(called)


def _end_as_busy(call: Call) -> errors.CallBusy:
    caller = call.people[0]
    caller.leave_as(ParticipantStatus.LEFT)
    caller.save(update_fields=["status", "left_at"])
    call.status, call.end_reason, call.ended_at = CallStatus.BUSY, "busy", timezone.now()
    call.save(update_fields=["status", "end_reason", "ended_at"])
    return errors.CallBusy(callId=call.pk)


def join(call: Call, person: Participant, connection_id: str, answer: Any = None) -> None:
    """Let a participant join on this device, and tell the others and the participant's other devices."""
    person.join(connection_id)
    person.save()
    _agree(call, person)
    if not call.is_answered:
        call.status, call.answered_at = CallStatus.ACTIVE, person.joined_at
        call.save(update_fields=["status", "answered_at"])
    record = messages.CallRecord.of(call)
    publish(
        messages.CallAccepted(call_id=call.pk, user_id=person.user_id, answer=answer, data=record),
        *teardown.groups_of(call, but=person),
    )
    publish(
        messages.CallAnsweredElsewhere(call_id=call.pk, outcome="accepted", caused_by=connection_id),
        groups.person(person.user_id),
    )


def _agree(call: Call, person: Participant) -> None:
    """A patient who calls or takes a call agrees to the rooms that the others have opened."""
    if person.user.is_patient:
        others = [one.user_id for one in call.people if one.user_id != person.user_id]
        import_string(settings.AGREEMENT)([person.user_id], others)


def _initiated(call: Call, user: User, *, is_duplicate: bool = False) -> Result:
    return Result(
        events=[messages.CallInitiated.of(call, user.pk)],
        ack_data={"callId": call.pk},
        is_duplicate=is_duplicate,
    )
