"""Accepting and rejecting an emergency: the first to accept becomes the assignee."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from emergency import audience, messages, timeline
from emergency.actions import find_emergency, lock_emergency, must_be_without_patient
from emergency.bounds import bounded_fields
from emergency.current_state import state_of, status_change
from emergency.models import Alert, Emergency, Entry, EntryKind, HospitalPolicy, Reply
from emergency.mutual_aid import stop_asking, take_over
from emergency.sharing import share_locations
from emergency.status import OPEN, Status
from hplus import errors
from hplus.accounts.models import User
from hplus.realtime import groups
from hplus.realtime.actions import Result, action
from hplus.realtime.hub.presence import online_among
from location.actions import close_grants

ANSWERS = {"estimated_arrival", "response_notes", "rejection_reason"}


def respond(user: User, request: messages.Respond) -> Result:
    """Accept or reject an emergency, as staff of its hospital or of one that is asked to help.

    The role is one that accepts by the hospital's policy, unless the user was alerted.

    Raises Forbidden (a patient, another role), EmergencyNotFound, EmergencyAlreadyAssigned (also for who was
    alerted, where another hospital has it now) or InvalidTransition.
    """
    if user.is_patient:
        raise errors.Forbidden("Only staff of the hospital may respond.")
    try:
        return _respond(user, request)
    except errors.EmergencyNotFound:
        if request.action == "accept":
            _must_not_be_late(user, request.emergency_id)
        raise


def _respond(user: User, request: messages.Respond) -> Result:
    emergency = find_emergency(user, request.emergency_id)
    if not _is_asked(user, emergency):
        raise errors.EmergencyNotFound(field="emergencyId")
    if not _may_respond(user, emergency):
        raise errors.Forbidden("Only the roles of the hospital's policy, and who was alerted, may respond.")
    if request.action == "accept":
        _accept(user, request, emergency.hospital_id)
    else:
        _reject(user, request)
    return Result(ack_data={"emergencyId": emergency.pk})


def _must_not_be_late(user: User, emergency_id: str) -> None:
    """Check whether the user was alerted to what is elsewhere now, and say what the user heard last of it.

    Raises EmergencyAlreadyAssigned or InvalidTransition.
    """
    state = timeline.last_shown(user, emergency_id)
    if state is not None and state["status"] != Status.PENDING:
        raise _refusal_of_late(state["status"], state["assignedTo"], state["assignedRole"])


def _refusal_of_late(status: str, assignee_id: str | None, role: str | None) -> errors.Refusal:
    if status not in OPEN:
        return errors.InvalidTransition(status=status)
    return errors.EmergencyAlreadyAssigned(assignedTo=assignee_id, assignedRole=role)


def _may_respond(user: User, emergency: Emergency) -> bool:
    is_assignee = user.pk == emergency.assigned_to_id
    is_role = user.role in HospitalPolicy.of(user.hospital_id or emergency.hospital_id).accept_roles
    alerted = Alert.objects.filter(emergency=emergency, user=user).exclude(entry=None)
    return is_assignee or is_role or alerted.exists()


def _is_asked(user: User, emergency: Emergency) -> bool:
    if user.works_at(emergency.hospital_id):
        return True
    return Emergency.objects.asked_of(user.hospital_id).filter(pk=emergency.pk).exists()


@action
def _accept(user: User, request: messages.Respond, hospital_id: str) -> None:
    """Accept; one conditional update decides who is first. Repeating an acceptance is no error.

    Accepted at another hospital than the one that has it, it is that one's from now on.
    """
    now = timezone.now()
    waiting = Emergency.objects.pending().filter(pk=request.emergency_id, hospital=hospital_id)
    is_first = waiting.update(
        hospital_id=user.hospital_id,
        status=Status.ACCEPTED,
        assigned_to=user,
        assigned_role=user.role,
        accepted_at=now,
        escalate_at=None,
        check_at=now,
        acknowledged_at=now,
        estimated_arrival=request.estimated_arrival,
    )
    emergency, now = lock_emergency(user, request.emergency_id), timezone.now()
    if not is_first and not _accepts_again(user, emergency, request):
        return
    is_quiet = not is_first and timeline.has_told_often(emergency, EntryKind.RESPONDED, user, now)
    is_quiet = is_quiet and emergency.acknowledged_at is not None
    emergency.acknowledge(now)
    emergency.save_change()
    if is_quiet:
        return
    listeners = []
    if hospital_id != emergency.hospital_id:
        listeners = [audience.staff_concerned(emergency, of=hospital_id)]
        take_over(emergency, user, hospital_id, now)
    audience.store_reply(emergency, user, Reply.ACCEPTED, now)
    share_locations(emergency)
    entry = _add_response_entry(emergency, user, request, now)
    audience.publish_entry(messages.EmergencyResponse, entry, emergency, *listeners)
    if is_first:
        stop_asking(emergency)


def _accepts_again(user: User, emergency: Emergency, request: messages.Respond) -> bool:
    """Whether it is news: the assignee had not acknowledged, or has another estimated arrival, then set.

    Raises InvalidTransition (closed) or EmergencyAlreadyAssigned (to somebody else).
    """
    if not emergency.is_open or emergency.assigned_to_id != user.pk:
        raise _refusal_of_late(emergency.status, emergency.assigned_to_id, emergency.assigned_role)
    is_new = request.estimated_arrival not in (None, emergency.estimated_arrival)
    if is_new:
        emergency.estimated_arrival = request.estimated_arrival
    return is_new or emergency.acknowledged_at is None


@action
def _reject(user: User, request: messages.Respond) -> None:
    """Reject. The assignee releases the emergency by it, unless the patient is with the crew; repeating a
    rejection changes nothing.

    The requester hears of it only when everybody has rejected; after an acceptance or the end nobody does.
    """
    emergency, now = lock_emergency(user, request.emergency_id), timezone.now()
    if emergency.assigned_to_id == user.pk and emergency.is_open:
        must_be_without_patient(emergency)
        _release(emergency, user, request, now)
        return
    if Alert.objects.filter(emergency=emergency, user=user, reply=Reply.REJECTED).exists():
        return
    audience.store_reply(emergency, user, Reply.REJECTED, now)
    entry = _add_response_entry(emergency, user, request, now)
    if emergency.status == Status.PENDING:
        but = [] if _have_all_rejected(emergency) else [emergency.requested_by_id]
        actor = audience.actor_group(emergency, user)
        audience.publish_entry(messages.EmergencyResponse, entry, emergency, *actor, but=but)


def _have_all_rejected(emergency: Emergency) -> bool:
    """Whether everybody who is online and was to be alerted has rejected, also where help is asked for."""
    rejected = Alert.objects.filter(emergency=emergency, reply=Reply.REJECTED).user_ids()
    asked = {*audience.users_to_alert(emergency), *audience.helpers_alerted(emergency)}
    return not online_among(asked - set(rejected))


def _release(emergency: Emergency, user: User, request: messages.Respond, now: datetime) -> None:
    """Make it pending again, restart the escalation, and alert the others anew."""
    previous = emergency.status
    emergency.reset_to_pending(emergency.next_escalation_at())
    emergency.save_change()
    close_grants(emergency.pk, "released", subject_id=user.pk)
    share_locations(emergency)
    audience.store_reply(emergency, user, Reply.REJECTED, now)
    response = _add_response_entry(emergency, user, request, now)
    change = status_change(emergency, user, now, previous, notes=request.rejection_reason)
    status = timeline.add_entry(emergency, EntryKind.STATUS, user, change, now)
    audience.publish_entry(messages.EmergencyResponse, response, emergency, groups.person(user.pk))
    audience.publish_entry(messages.EmergencyStatusUpdate, status, emergency, groups.person(user.pk))
    others = {*audience.users_to_alert(emergency), *audience.staff_alerted_before(emergency)} - {user.pk}
    audience.alert(emergency, others, now)


def _add_response_entry(emergency: Emergency, user: User, request: messages.Respond, now: datetime) -> Entry:
    answers, whole = bounded_fields(request.model_dump(include=ANSWERS))
    response = messages.Response(
        emergency_id=emergency.pk,
        action=request.action,
        status=emergency.status,
        responder_id=user.pk,
        responder_name=user.display_name,
        responder_role=user.role,
        assigned_to=emergency.assigned_to_id,
        assigned_role=emergency.assigned_role,
        timestamp=now,
        emergency=state_of(emergency),
        **answers,
    )
    return timeline.add_entry(emergency, EntryKind.RESPONDED, user, response, now, whole=whole)
