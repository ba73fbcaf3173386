"""Actions in a call, and reading calls; the socket, REST and the admin site call the same ones."""

from __future__ import annotations

from typing import Any

from calls import messages, teardown
from calls.models import Call, Participant, ParticipantStatus
from calls.setup import busy_among, join, lock_calls_of, lock_users, ring
from hplus import errors
from hplus.accounts.actions import counterpart
from hplus.accounts.models import User
from hplus.realtime import groups
from hplus.realtime.actions import Result, action, publish


def find_call(user: User, call_id: str) -> Call:
    """Return a call the user may see. Raises CallNotFound, also for a call of others."""
    return Call.objects.visible_to(user).with_people().find(call_id, errors.CallNotFound())


def _lock_call(user: User, call_id: str) -> tuple[Call, Participant]:
    """Lock a call, and return it with the user's participant.

    Raises CallNotFound, or Forbidden for an admin who is not in it.
    """
    visible = Call.objects.visible_to(user).select_for_update(of=("self",))
    call = visible.find(call_id, errors.CallNotFound())
    mine = call.participant(user.pk)
    if mine is None:
        raise errors.Forbidden("You are not in this call.")
    return call, mine


@action
def accept(user: User, request: messages.AcceptCall, connection_id: str) -> Result:
    """Accept a call on this device. The first device wins; after its connection is lost, another may follow.

    Other calls that ring for the user are declined as busy, and become missed calls. Raises CallNotFound,
    Forbidden or CallInvalidState.
    """
    lock_users([user])
    others = [call for call in lock_calls_of(user) if call.pk != request.call_id]
    call, mine = _lock_call(user, request.call_id)
    if not mine.is_ringing and not _may_take_over(call, mine, connection_id):
        raise errors.CallInvalidState(status=call.status, reason=_refused_because(mine))
    if mine.connection_id != connection_id or mine.is_ringing:
        teardown.decline_as_busy(others, user)
        join(call, mine, connection_id, request.answer)
    return Result(ack_data={"callId": call.pk})


def _may_take_over(call: Call, mine: Participant, connection_id: str) -> bool:
    """Whether the device has joined already, or follows one of the same callee that is gone."""
    if not mine.has_joined or call.initiator_id == mine.user_id:
        return False
    return mine.connection_id == connection_id or not mine.is_connected


def _refused_because(mine: Participant) -> str:
    return "answered elsewhere" if mine.has_joined else f"you have {mine.status} it"


@action
def reject(user: User, request: messages.RejectCall, connection_id: str) -> Result:
    """Decline a call. Does nothing where it has stopped ringing.

    Raises CallNotFound, Forbidden or CallInvalidState (already in it).
    """
    call, mine = _lock_call(user, request.call_id)
    if mine.status in (ParticipantStatus.JOINED, ParticipantStatus.LEFT):
        raise errors.CallInvalidState(status=call.status, reason="you are not being called")
    if mine.is_ringing:
        teardown.reject(call, mine, request.reason, connection_id)
    return Result(ack_data={"callId": call.pk})


@action
def end(user: User, request: messages.EndCall, connection_id: str) -> Result:
    """Hang up, or decline while it rings. Does nothing for somebody who has left.

    Raises CallNotFound or Forbidden.
    """
    call, mine = _lock_call(user, request.call_id)
    if mine.is_ringing:
        teardown.reject(call, mine, request.reason, connection_id)
    elif mine.has_joined:
        teardown.hang_up(call, mine, request.reason, connection_id)
    return Result(ack_data={"callId": call.pk})


# Adding people


@action
def add(user: User, request: messages.AddParticipant, connection_id: str) -> Result:
    """Call another person into the call. Does nothing where that person rings or is in it already.

    Raises CallNotFound, Forbidden, CallInvalidState, CallBusy and what `counterpart` raises.
    """
    seen = find_call(user, request.call_id)
    if user.is_patient:
        raise errors.Forbidden("Only staff may ask somebody into a call.")
    invitee = counterpart(user, request.participant_id, seen.hospital_id)
    lock_users([invitee])
    call, mine = _lock_call(user, seen.pk)
    if not mine.has_joined:
        raise errors.CallInvalidState(status=call.status, reason="you are not in the call")
    known = call.participant(invitee.pk)
    if known is None or not known.is_present:
        _must_be_addable(call, invitee)
        _invite(call, known or Participant(call=call, user=invitee), user, connection_id)
    return Result(ack_data={"callId": call.pk})


def _must_be_addable(call: Call, invitee: User) -> None:
    patients = {one.user_id for one in call.people if one.user.is_patient} - {invitee.pk}
    if invitee.is_patient and patients:
        raise errors.Forbidden("Two patients never meet in a call.")
    if len(call.present()) > messages.MAX_CALLEES:
        raise errors.CallInvalidState(status=call.status, reason="the call is full")
    if busy_among([invitee], call):
        raise errors.CallBusy()


def _invite(call: Call, callee: Participant, by: User, connection_id: str) -> None:
    others = teardown.groups_of(call)
    callee.ring(by=by)
    callee.save()
    call.__dict__.pop("people")
    added = messages.ParticipantAdded(
        call_id=call.pk,
        caused_by=connection_id,
        user_id=by.pk,
        participant_id=callee.user_id,
        data=messages.CallRecord.of(call),
    )
    publish(added, *others)
    ring([callee])


# Signaling


@action
def signal(user: User, request: messages.SignalCall, connection_id: str) -> None:
    """Pass a signal on to another participant. An ICE candidate after one of them has left is dropped.

    Raises CallNotFound, UserNotFound (the target is not in it) or CallInvalidState.
    """
    pair = [user.pk, request.target_user_id]
    in_call = Participant.objects.with_device().filter(call=request.call_id, user__in=pair)
    parts = {one.user_id: one for one in in_call}
    if user.pk not in parts:
        raise errors.CallNotFound()
    if len(parts) < 2:
        raise errors.UserNotFound("That person is not in the call.", field="targetUserId")
    if all(one.is_present for one in parts.values()):
        device = parts[request.target_user_id].device
        publish(_signalled(user, request, connection_id, device), groups.person(request.target_user_id))
    elif request.signal_type != "iceCandidate":
        raise errors.CallInvalidState("One of you is not in the call any more.")


def _signalled(
    user: User, request: messages.SignalCall, connection_id: str, device: str
) -> messages.CallSignalled:
    return messages.CallSignalled(
        call_id=request.call_id,
        caused_by=connection_id,
        device=device,
        user_id=user.pk,
        target_user_id=request.target_user_id,
        signal_type=request.signal_type,
        sdp=request.sdp,
        candidate=request.candidate,
    )


# Reading


def _present_participants(user: User) -> list[Participant]:
    """The one in the call that the user talks in, then those of calls that ring, the most urgent first."""
    present = Participant.objects.present().filter(user=user).select_related("call__initiator", "invited_by")
    return sorted(present, key=lambda one: (not one.has_joined, -one.call.urgency, one.pk))


def active_call(user: User) -> dict[str, Any] | None:
    """Return the call the user is in, or the most urgent one that rings for the user."""
    present = _present_participants(user)
    return messages.CallRecord.of(present[0].call).as_json() if present else None


def incoming_calls(user: User) -> Result | None:
    """`callInitiate` of each call that rings for the user, for a device that has just connected."""
    ringing = [one for one in _present_participants(user) if one.is_ringing]
    return Result(events=[messages.IncomingCall.of(one) for one in ringing]) if ringing else None


def calls_of(user: User, before: str | None = None, limit: int = 50) -> tuple[list[Call], bool]:
    """Return a page of the calls the user may see, the latest first, and whether there are more."""
    found = Call.objects.visible_to(user).with_people().order_by("-call_id")
    if before:
        found = found.filter(call_id__lt=before)
    rows = list(found[: limit + 1])
    return rows[:limit], len(rows) > limit
