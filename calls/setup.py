"""How a call begins: who may be called, who is busy, and two who call each other at once."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from calls import messages, teardown
from calls.models import Call, CallStatus, Part, Participant
from hplus import errors
from hplus.accounts.actions import must_be_counterpart
from hplus.accounts.models import User
from hplus.protocol import wire
from hplus.push.actions import Wakeup
from hplus.realtime import groups
from hplus.realtime.actions import Result, action, publish
from hplus.realtime.publishing.push_wakeups import push_to_absent


def initiate(user: User, request: messages.InitiateCall, connection_id: str) -> Result:
    """It rings on all devices of the callees.

    Raises UserNotFound, HospitalNotFound, HospitalMismatch, Forbidden (patient to patient), CallBusy
    (all callees are), CallInvalidState (the caller is in another call) or IdempotencyConflict.
    """
    outcome = _place(user, request, connection_id)
    if isinstance(outcome, errors.Refusal):
        raise outcome
    return outcome


@action
def _place(user: User, request: messages.InitiateCall, connection_id: str) -> Result | errors.Refusal:
    """Returns CallBusy where the others would raise: the attempt is kept, the callee hears of it."""
    callees, hospital_id = _callees(user, request)
    hold_lines([user, *callees])
    settled = _repeated(user, request) or _settled_by_present_call(user, request, connection_id)
    if settled is not None:
        return settled
    call = Call.objects.create(
        call_type=request.call_type,
        initiator=user,
        hospital_id=hospital_id,
        emergency_id=request.emergency_id or "",
    )
    _seat(call, user, request, connection_id, callees)
    if len(call.present()) < 2:
        return _busy(call)
    ring(call.present()[1:], request.offer)
    return _answer(call, user)


# Who may be called


def _callees(user: User, request: messages.InitiateCall) -> tuple[list[User], str]:
    """Those who are called, and the hospital in which: staff's own, a patient's callee's."""
    found = User.objects.in_bulk(request.callee_ids)
    first = found.get(request.callee_ids[0])
    if first is None:
        raise errors.UserNotFound()
    hospital_id = request.hospital_id or (first if user.is_patient else user).hospital_id or ""
    callees = [must_be_counterpart(user, found.get(pk), hospital_id) for pk in request.callee_ids]
    if len([one for one in [user, *callees] if one.is_patient]) > 1:
        raise errors.Forbidden("Two patients never meet in a call.")
    return callees, hospital_id


def hold_lines(users: list[User]) -> None:
    """Nobody else begins a call with any of these people until this deed is done."""
    people = User.objects.select_for_update(no_key=True).filter(pk__in=[user.pk for user in users])
    list(people.order_by("pk").values_list("pk", flat=True))


def busy_among(users: list[User]) -> set[str]:
    """Those of these people who are in a call or whose devices ring."""
    return set(Participant.objects.present().filter(user__in=users).values_list("user_id", flat=True))


def ring(callees: list[Participant], offer: messages.Description | None = None) -> None:
    """On all their devices; one that is asleep gets a push, and hears of the call when it connects."""
    for callee in callees:
        publish(messages.IncomingCall.of(callee, offer), groups.person(callee.user_id))
    push_to_absent([Wakeup(one.user_id, "incomingCall", one.call_id, wire.new_id()) for one in callees])


# What is there already


def _fingerprint(request: messages.InitiateCall) -> str:
    """What makes it the same wish; a phone that tries again may have made a new offer."""
    content = request.model_dump(exclude={"request_id", "client_message_id", "client_timestamp", "offer"})
    return wire.fingerprint(content)


def _repeated(user: User, request: messages.InitiateCall) -> Result | errors.Refusal | None:
    """The same answer for the same clientMessageId."""
    if not request.client_message_id:
        return None
    mine = Participant.objects.filter(user=user, client_message_id=request.client_message_id)
    first = mine.select_related("call").first()
    if first is None:
        return None
    if first.fingerprint != _fingerprint(request):
        return errors.IdempotencyConflict(field="clientMessageId")
    if first.call.status == CallStatus.BUSY:
        return errors.CallBusy(callId=first.call_id)
    return _answer(first.call, user, is_duplicate=True)


def _settled_by_present_call(user: User, request: messages.InitiateCall, connection_id: str) -> Result | None:
    """Who calls back while the other's call rings, has joined that one; who is still in another
    call leaves it first, if that device is gone. Raises CallInvalidState."""
    call = _locked_call_of(user)
    mine = call.part_of(user.pk) if call else None
    if call is None or mine is None or not mine.is_present:
        return None
    is_same = {one.user_id for one in call.people} == {user.pk, *request.callee_ids}
    if is_same and mine.is_ringing and call.initiator_id in request.callee_ids:
        mine.client_message_id, mine.fingerprint = request.client_message_id, _fingerprint(request)
        join(call, mine, connection_id)
        return _answer(call, user)
    if mine.is_ringing:
        teardown.reject(call, mine, "busy")
        return None
    if not mine.is_connected:
        teardown.hang_up(call, mine, None)
        return None
    if is_same and call.initiator_id == user.pk and not call.is_answered:  # tapped twice
        return _answer(call, user, is_duplicate=True)
    raise errors.CallInvalidState("You are in a call.", callId=call.pk)


def _locked_call_of(user: User) -> Call | None:
    present = Participant.objects.present().filter(user=user)
    return Call.objects.select_for_update(of=("self",)).filter(pk__in=present.values("call")).first()


# Who is in it


def _seat(
    call: Call, user: User, request: messages.InitiateCall, connection_id: str, callees: list[User]
) -> None:
    caller = Participant(
        call=call,
        user=user,
        client_message_id=request.client_message_id,
        fingerprint=_fingerprint(request) if request.client_message_id else "",
    )
    caller.join(connection_id)
    call.people = [caller]
    busy = busy_among(callees)
    for callee in callees:
        called = Participant(call=call, user=callee)
        called.ring(by=user)
        if callee.pk in busy:
            called.go(Part.BUSY)
        call.people.append(called)
    Participant.objects.bulk_create(call.people)
    for called in call.people:
        if called.status == Part.BUSY:
            teardown.notify_missed(called)


def _busy(call: Call) -> errors.CallBusy:
    caller = call.people[0]
    caller.go(Part.LEFT)
    caller.save(update_fields=["status", "left_at"])
    call.status, call.end_reason, call.ended_at = CallStatus.BUSY, "busy", timezone.now()
    call.save(update_fields=["status", "end_reason", "ended_at"])
    return errors.CallBusy(callId=call.pk)


def join(call: Call, person: Participant, connection_id: str, answer: Any = None) -> None:
    """This person is in, on this device: the others hear it, and the other devices stop ringing."""
    person.join(connection_id)
    person.save()
    if not call.is_answered:
        call.status, call.answered_at = CallStatus.ACTIVE, person.joined_at
        call.save(update_fields=["status", "answered_at"])
    record = messages.CallRecord.of(call)
    publish(
        messages.CallAccepted(call_id=call.pk, user_id=person.user_id, answer=answer, data=record),
        *teardown.everyone(call, but=person),
    )
    publish(
        messages.CallAnsweredElsewhere(call_id=call.pk, outcome="accepted", asked_by=connection_id),
        groups.person(person.user_id),
    )


def _answer(call: Call, user: User, *, is_duplicate: bool = False) -> Result:
    return Result(
        events=[messages.CallInitiated.of(call, user.pk)],
        ack_data={"callId": call.pk},
        is_duplicate=is_duplicate,
    )
