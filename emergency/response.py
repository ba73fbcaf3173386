"""Accepting and rejecting: the first who accepts has it."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from emergency import audience, messages
from emergency.actions import find_emergency, locked
from emergency.models import Alert, Emergency, Entry, EntryKind, Reply
from emergency.status import Status
from hplus import errors
from hplus.accounts.models import User
from hplus.realtime import groups
from hplus.realtime.actions import Result, action, publish
from hplus.realtime.hub.presence import online_among
from location.actions import close_grants


def respond(user: User, request: messages.Respond) -> Result:
    """Take it or decline it, as staff of its hospital.

    Raises Forbidden (a patient), EmergencyNotFound, EmergencyAlreadyAssigned or InvalidTransition.
    """
    if user.is_patient:
        raise errors.Forbidden("Only staff of the hospital may respond.")
    emergency = find_emergency(user, request.emergency_id)
    if not user.works_at(emergency.hospital_id):
        raise errors.EmergencyNotFound(field="emergencyId")
    if request.action == "accept":
        _accept(user, request)
    else:
        _reject(user, request)
    return Result(ack_data={"emergencyId": emergency.pk})


@action
def _accept(user: User, request: messages.Respond) -> None:
    """The first wins, by one conditional update; the same responder again is well."""
    now = timezone.now()
    waiting = Emergency.objects.pending().filter(pk=request.emergency_id, hospital=user.hospital_id)
    has_won = waiting.update(
        status=Status.ACCEPTED,
        assigned_to=user,
        assigned_role=user.role,
        accepted_at=now,
        escalate_at=None,
        estimated_arrival=request.estimated_arrival,
    )
    emergency = locked(user, request.emergency_id)
    if not has_won and not _accepts_again(user, emergency, request):
        return
    emergency.save_change()
    audience.remember_reply(emergency, user, Reply.ACCEPTED, now)
    audience.share_locations(emergency)
    entry = _note_response(emergency, user, request, now)
    publish(messages.EmergencyResponse.of(entry), *audience.listeners(emergency))


def _accepts_again(user: User, emergency: Emergency, request: messages.Respond) -> bool:
    """Whether the assignee has something new to say: another estimated arrival."""
    if not emergency.is_open:
        raise errors.InvalidTransition(status=emergency.status)
    if emergency.assigned_to_id != user.pk:
        raise errors.EmergencyAlreadyAssigned(
            assignedTo=emergency.assigned_to_id, assignedRole=emergency.assigned_role
        )
    is_news = request.estimated_arrival not in (None, emergency.estimated_arrival)
    if is_news:
        emergency.estimated_arrival = request.estimated_arrival
    return is_news


@action
def _reject(user: User, request: messages.Respond) -> None:
    """Leaves it as it is, unless it was theirs; when it is somebody else's or over, nobody needs to hear."""
    emergency, now = locked(user, request.emergency_id), timezone.now()
    if emergency.assigned_to_id == user.pk and emergency.is_open:
        _release(emergency, user, request, now)
        return
    audience.remember_reply(emergency, user, Reply.REJECTED, now)
    entry = _note_response(emergency, user, request, now)
    if emergency.status == Status.PENDING:
        hearing = audience.listeners(emergency)
        is_hopeless = _nobody_is_left(emergency)
        but = [] if is_hopeless else [emergency.requested_by_id]
        publish(messages.EmergencyResponse.of(entry), *hearing, groups.person(user.pk), but=but)


def _nobody_is_left(emergency: Emergency) -> bool:
    """Whether everyone who is there and could accept has rejected."""
    rejected = Alert.objects.filter(emergency=emergency, reply=Reply.REJECTED).users()
    return not online_among(set(audience.audience(emergency)) - set(rejected))


def _release(emergency: Emergency, user: User, request: messages.Respond, now: datetime) -> None:
    """Pending again; the others are alerted anew, and the waiting begins anew."""
    previous = emergency.status
    emergency.wait_again(audience.due_from_now(emergency))
    emergency.save_change()
    close_grants(emergency.pk, "released", subject_id=user.pk)
    audience.share_locations(emergency)
    audience.remember_reply(emergency, user, Reply.REJECTED, now)
    response = _note_response(emergency, user, request, now)
    change = audience.status_change(emergency, user, now, previous, notes=request.rejection_reason)
    status = audience.note(emergency, EntryKind.STATUS, user, change, now)
    hearing = [*audience.listeners(emergency), groups.person(user.pk)]
    publish(messages.EmergencyResponse.of(response), *hearing)
    publish(messages.EmergencyStatusUpdate.of(status), *hearing)
    others = {*audience.audience(emergency), *audience.called_before(emergency)} - {user.pk}
    audience.alert(emergency, others, now)


def _note_response(emergency: Emergency, user: User, request: messages.Respond, now: datetime) -> Entry:
    said = messages.Response(
        emergency_id=emergency.pk,
        action=request.action,
        status=emergency.status,
        responder_id=user.pk,
        responder_name=user.display_name,
        responder_role=user.role,
        assigned_to=emergency.assigned_to_id,
        assigned_role=emergency.assigned_role,
        estimated_arrival=request.estimated_arrival,
        response_notes=request.response_notes,
        rejection_reason=request.rejection_reason,
        timestamp=now,
        emergency=audience.shown(emergency),
    )
    return audience.note(emergency, EntryKind.RESPONDED, user, said, now)
