"""What can be done in a call; socket, REST and admin call the same."""

from __future__ import annotations

from typing import Any

from calls import messages, teardown
from calls.models import Call, Part, Participant
from calls.setup import busy_among, hold_lines, join, ring
from hplus import errors
from hplus.accounts.actions import counterpart
from hplus.accounts.models import User
from hplus.realtime import groups
from hplus.realtime.actions import Result, action, publish


def find_call(user: User, call_id: str) -> Call:
    """Raises CallNotFound, also for a call of others."""
    found = Call.objects.visible_to(user).with_people().filter(pk=call_id)
    call = found.first() if "\x00" not in call_id else None
    if call is None:
        raise errors.CallNotFound()
    return call


def _locked(user: User, call_id: str) -> tuple[Call, Participant]:
    """A call and this user's part in it. Raises CallNotFound or Forbidden (an admin who only looks on)."""
    visible = Call.objects.visible_to(user).filter(pk=call_id)
    call = visible.select_for_update(of=("self",)).first()
    if call is None:
        raise errors.CallNotFound()
    mine = call.part_of(user.pk)
    if mine is None:
        raise errors.Forbidden("You are not in this call.")
    return call, mine


@action
def accept(user: User, request: messages.AcceptCall, connection_id: str) -> Result:
    """The first device wins; one that is gone can be followed by another of the same user.

    Raises CallNotFound, Forbidden or CallInvalidState.
    """
    call, mine = _locked(user, request.call_id)
    if not mine.is_ringing and not _may_take_over(call, mine, connection_id):
        raise errors.CallInvalidState(status=call.status, reason=_why_not(mine))
    if mine.connection_id != connection_id or mine.is_ringing:
        join(call, mine, connection_id, request.answer)
    return Result(ack_data={"callId": call.pk})


def _may_take_over(call: Call, mine: Participant, connection_id: str) -> bool:
    """Said again by the same device, or by the next one where that has gone; never the caller."""
    if not mine.has_joined or call.initiator_id == mine.user_id:
        return False
    return mine.connection_id == connection_id or not mine.is_connected


def _why_not(mine: Participant) -> str:
    return "answered elsewhere" if mine.has_joined else f"you have {mine.status} it"


@action
def reject(user: User, request: messages.RejectCall, connection_id: str) -> Result:
    """Not for me. Where it stopped ringing by itself, nothing is left to do.

    Raises CallNotFound, Forbidden or CallInvalidState (already in it).
    """
    call, mine = _locked(user, request.call_id)
    if mine.status in (Part.JOINED, Part.LEFT):
        raise errors.CallInvalidState(status=call.status, reason="you are not being called")
    if mine.is_ringing:
        teardown.reject(call, mine, request.reason, connection_id)
    return Result(ack_data={"callId": call.pk})


@action
def end(user: User, request: messages.EndCall, connection_id: str) -> Result:
    """I leave. Two who hang up at once are both right.

    Raises CallNotFound or Forbidden.
    """
    call, mine = _locked(user, request.call_id)
    if mine.is_ringing:
        teardown.reject(call, mine, request.reason, connection_id)
    elif mine.has_joined:
        teardown.hang_up(call, mine, request.reason, connection_id)
    return Result(ack_data={"callId": call.pk})


# More people


@action
def add(user: User, request: messages.AddParticipant, connection_id: str) -> Result:
    """Staff in the call ask somebody in; whoever rings or is there already is not asked again.

    Raises CallNotFound, Forbidden, CallInvalidState, CallBusy and what `counterpart` raises.
    """
    seen = find_call(user, request.call_id)
    if user.is_patient:
        raise errors.Forbidden("Only staff may ask somebody into a call.")
    asked = counterpart(user, request.participant_id, seen.hospital_id)
    hold_lines([asked])
    call, mine = _locked(user, seen.pk)
    if not mine.has_joined:
        raise errors.CallInvalidState(status=call.status, reason="you are not in the call")
    known = call.part_of(asked.pk)
    if known is None or not known.is_present:
        _must_fit(call, asked)
        _ask_in(call, known or Participant(call=call, user=asked), user, connection_id)
    return Result(ack_data={"callId": call.pk})


def _must_fit(call: Call, asked: User) -> None:
    patients = {one.user_id for one in call.people if one.user.is_patient} - {asked.pk}
    if asked.is_patient and patients:
        raise errors.Forbidden("Two patients never meet in a call.")
    if len(call.present()) > messages.MOST_INVITED:
        raise errors.CallInvalidState(status=call.status, reason="the call is full")
    if busy_among([asked]):
        raise errors.CallBusy()


def _ask_in(call: Call, callee: Participant, by: User, connection_id: str) -> None:
    others = teardown.everyone(call)
    callee.ring(by=by)
    callee.save()
    call.__dict__.pop("people")
    added = messages.ParticipantAdded(
        call_id=call.pk,
        asked_by=connection_id,
        user_id=by.pk,
        participant_id=callee.user_id,
        data=messages.CallRecord.of(call),
    )
    publish(added, *others)
    ring([callee])


# From device to device


@action
def signal(user: User, request: messages.SignalCall, connection_id: str) -> None:
    """Passed on between two who are in the call or ring; a candidate that comes too late is dropped.

    Raises CallNotFound, UserNotFound (the target is not in it) or CallInvalidState.
    """
    pair = [user.pk, request.target_user_id]
    parts = {one.user_id: one for one in Participant.objects.filter(call=request.call_id, user__in=pair)}
    if user.pk not in parts:
        raise errors.CallNotFound()
    if len(parts) < 2:
        raise errors.UserNotFound("That person is not in the call.", field="targetUserId")
    if all(one.is_present for one in parts.values()):
        publish(_signalled(user, request, connection_id), groups.person(request.target_user_id))
    elif request.signal_type != "iceCandidate":
        raise errors.CallInvalidState("One of you is not in the call any more.")


def _signalled(user: User, request: messages.SignalCall, connection_id: str) -> messages.CallSignalled:
    return messages.CallSignalled(
        call_id=request.call_id,
        asked_by=connection_id,
        user_id=user.pk,
        target_user_id=request.target_user_id,
        signal_type=request.signal_type,
        sdp=request.sdp,
        candidate=request.candidate,
    )


# What is to be seen


def _present_in(user: User) -> Participant | None:
    return Participant.objects.present().filter(user=user).select_related("call", "invited_by").first()


def active_call(user: User) -> dict[str, Any] | None:
    """The call this user is in or is being called into."""
    mine = _present_in(user)
    return messages.CallRecord.of(mine.call).as_json() if mine else None


def incoming(user: User) -> Result | None:
    """The call that rings for this user, for a device that has just connected."""
    mine = _present_in(user)
    return Result(events=[messages.IncomingCall.of(mine)]) if mine and mine.is_ringing else None


def calls_of(user: User, before: str | None = None, limit: int = 50) -> tuple[list[Call], bool]:
    """The calls this user may look at, the latest first, and whether there are more."""
    found = Call.objects.visible_to(user).with_people().order_by("-call_id")
    if before:
        found = found.filter(call_id__lt=before)
    rows = list(found[: limit + 1])
    return rows[:limit], len(rows) > limit
