"""What can be done with an emergency; socket, REST, admin and commands call the same.

The call for help is in requesting.py, accepting and rejecting in responding.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from emergency import audience, messages
from emergency.models import Alert, Emergency, EntryKind, HospitalPolicy, Reply
from emergency.observations import observe, tell_who_must_act
from emergency.status import ASSIGNED, MOVES, OPEN, REQUESTER_MAY_CANCEL, Status
from hplus import errors
from hplus.accounts.actions import find_hospital
from hplus.accounts.models import User
from hplus.realtime import groups
from hplus.realtime.actions import Result, action, publish
from hplus.realtime.publishing.envelopes import Envelope
from hplus.realtime.publishing.mailbox import newest_entries_about
from location.actions import close_grants, nearest_users

LISTED = 100
LATE_ALERTS = 100  # at one handshake, which has to end in time

# Looking


def find_emergency(user: User, emergency_id: str) -> Emergency:
    """Raises EmergencyNotFound, also for one of another hospital."""
    return _one(Emergency.objects.visible_to(user).filter(pk=emergency_id), emergency_id)


def locked(user: User, emergency_id: str) -> Emergency:
    """The row, ours alone until the deed is done."""
    visible = Emergency.objects.visible_to(user).filter(pk=emergency_id)
    return _one(visible.select_for_update(of=("self",)), emergency_id)


def _one(found: QuerySet[Emergency], emergency_id: str) -> Emergency:
    emergency = found.first() if "\x00" not in emergency_id else None
    if emergency is None:
        raise errors.EmergencyNotFound(field="emergencyId")
    return emergency


def listed(user: User, statuses: Iterable[str]) -> list[messages.EmergencyRequest]:
    """The latest emergencies this user may see, in these states."""
    return audience.shown_all(Emergency.objects.visible_to(user).filter(status__in=statuses)[:LISTED])


def active(user: User) -> list[dict[str, Any]]:
    """The open ones, for a screen that has just been opened."""
    return [emergency.as_json() for emergency in listed(user, OPEN)]


def nearest_responders(user: User, request: messages.FindNearest) -> Result:
    """Staff with a fresh position, the nearest first. Raises EmergencyNotFound or Forbidden."""
    emergency = find_emergency(user, request.emergency_id)
    if not user.works_at(emergency.hospital_id):
        raise errors.Forbidden("Only the hospital's staff may ask for responders.")
    staff = User.objects.staff_of(emergency.hospital_id).values_list("pk", flat=True)
    found = [
        messages.Responder(**near.model_dump()) for near in nearest_users(staff, emergency.lat, emergency.lng)
    ]
    return Result(events=[messages.NearestResponders(emergency_id=emergency.pk, data=found)])


def watch_board(user: User, request: messages.WatchBoard) -> Result:
    """Hear of every change, called to it or not: an admin the own hospital's, a superuser any one's.

    Raises ValidationFailed (a superuser has to name one), HospitalNotFound or Forbidden.
    """
    hospital_id = request.hospital_id or user.hospital_id
    if not hospital_id:
        raise errors.ValidationFailed("Which hospital's?", field="hospitalId", reason="is missing")
    if not (user.is_superuser or user.administers(hospital_id)):
        raise errors.Forbidden("Only the hospital's admins have its board.")
    find_hospital(hospital_id)
    watched = messages.BoardWatched(hospital_id=hospital_id)
    return Result(events=[watched], subscribe=[groups.board(hospital_id), groups.staff(hospital_id)])


# Alerts for a socket that has just come


def unanswered_alerts(user: User) -> list[Envelope]:
    """What is open and unanswered by this user, each as one alert; whoever was never called is called now."""
    if user.is_patient or user.hospital_id is None:
        return []
    waiting = Emergency.objects.pending().filter(hospital=user.hospital_id).exclude(requested_by=user)
    if not waiting.exists():  # most of the time
        return []
    known = Alert.objects.filter(user=user, emergency__in=waiting)
    missing = waiting.exclude(pk__in=known.values("emergency"))
    if user.role not in HospitalPolicy.of(user.hospital_id).alert_roles:
        missing = missing.filter(escalation_level__gt=0)
    if late := list(missing.values_list("pk", flat=True)[:LATE_ALERTS]):
        _alert_late(user, late)
    entries = known.filter(reply=Reply.NONE).exclude(entry=None).values_list("entry_id", flat=True)
    return newest_entries_about(user, messages.EmergencyAlert.type, entries)


@action
def _alert_late(user: User, emergency_ids: list[str]) -> None:
    """In the order of their ids, so that no two deeds wait for each other."""
    waiting = Emergency.objects.pending().filter(pk__in=emergency_ids).order_by("pk")
    rows = list(waiting.select_for_update(of=("self",)))
    known = set(Alert.objects.filter(user=user, emergency__in=rows).values_list("emergency_id", flat=True))
    for emergency in rows:
        if emergency.pk not in known:
            audience.alert(emergency, [user.pk], timezone.now())


# Status and phase


@action
def update_status(user: User, request: messages.UpdateStatus) -> Result:
    """Raises EmergencyNotFound, Forbidden or InvalidTransition."""
    emergency, now = locked(user, request.emergency_id), timezone.now()
    previous = emergency.status
    status = _status_asked(emergency, request)
    _must_be_possible(user, emergency, status, adds=_adds_something(request))
    _move(emergency, status, request, now)
    observed = observe(emergency, user, request.vitals, now) if request.vitals else None
    if observed:
        audience.note(emergency, EntryKind.VITALS, user, observed, now)
    emergency.save_change()
    change = audience.status_change(
        emergency, user, now, previous,
        notes=request.notes, vitals=request.vitals or None, completion_details=request.completion_details,
    )  # fmt: skip
    entry = audience.note(emergency, EntryKind.STATUS, user, change, now)
    if not emergency.is_open:
        audience.stop_sharing(emergency, emergency.status)
    audience.tell_status(entry, groups.person(user.pk), emergency=emergency)
    tell_who_must_act(emergency, observed)
    return Result(ack_data={"emergencyId": emergency.pk})


def _status_asked(emergency: Emergency, request: messages.UpdateStatus) -> str:
    """The first phase after the acceptance makes it in_progress."""
    asked = request.status or emergency.status
    begins = request.phase and (emergency.status, asked) == (Status.ACCEPTED, Status.ACCEPTED)
    return Status.IN_PROGRESS if begins else asked


def _adds_something(request: messages.UpdateStatus) -> bool:
    return any((request.phase, request.notes, request.vitals, request.completion_details))


def _must_be_possible(user: User, emergency: Emergency, status: str, *, adds: bool) -> None:
    """First by the status table, then by who asks; what is not a requester's is not, whatever the state."""
    is_staff = user.works_at(emergency.hospital_id)
    if not is_staff and (user.pk != emergency.requested_by_id or status != Status.CANCELLED):
        raise errors.Forbidden("Only the assignee or an admin of the hospital may say this.")
    is_late = not is_staff and emergency.status not in REQUESTER_MAY_CANCEL
    is_no_move = status == emergency.status == Status.ACCEPTED and not adds
    if status not in MOVES[emergency.status] or is_late or is_no_move:
        raise errors.InvalidTransition(
            f"An emergency that is {emergency.status} can't become {status}.", status=emergency.status
        )
    is_theirs = user.is_hospital_admin or user.pk == emergency.assigned_to_id
    if not is_theirs and status != Status.CANCELLED:
        raise errors.Forbidden("Only the assignee or an admin of the hospital may say this.")


def _move(emergency: Emergency, status: str, request: messages.UpdateStatus, now: datetime) -> None:
    if status in (Status.COMPLETED, Status.CANCELLED):
        emergency.close(status, now)
    emergency.status = status
    if request.phase and status in ASSIGNED:
        emergency.stamp(request.phase, now)


# By admins, and between hospitals


@action
def reassign(user: User, request: messages.Reassign) -> Result:
    """An admin of the hospital names who takes it.

    Raises EmergencyNotFound, Forbidden, UserNotFound or InvalidTransition.
    """
    emergency, now = locked(user, request.emergency_id), timezone.now()
    if not user.administers(emergency.hospital_id):
        raise errors.Forbidden("Only an admin of the hospital may reassign.")
    assignee = User.objects.staff_of(emergency.hospital_id).filter(pk=request.assignee_id).first()
    if assignee is None:
        raise errors.UserNotFound(field="assigneeId")
    _must_be_open(emergency)
    if emergency.assigned_to_id != assignee.pk:
        _hand_to(emergency, assignee, user, request.reason, now)
    return Result(ack_data={"emergencyId": emergency.pk})


def _hand_to(emergency: Emergency, assignee: User, admin: User, reason: str, now: datetime) -> None:
    previous, before = emergency.status, emergency.assigned_to_id
    if before:
        close_grants(emergency.pk, "reassigned", subject_id=before)
    emergency.assign(assignee, now)
    emergency.save_change()
    audience.share_locations(emergency)
    change = audience.status_change(emergency, admin, now, previous, notes=reason)
    entry = audience.note(emergency, EntryKind.REASSIGNED, admin, change, now)
    others = [groups.person(pk) for pk in (admin.pk, before) if pk]
    knows = Alert.objects.filter(emergency=emergency, user=assignee).exclude(entry=None).exists()
    if not knows and assignee.pk != emergency.requested_by_id:
        audience.alert(emergency, [assignee.pk], now)
    audience.remember_reply(emergency, assignee, Reply.ACCEPTED, now)
    audience.tell_status(entry, *others, emergency=emergency)


def _must_be_open(emergency: Emergency) -> None:
    if not emergency.is_open:
        raise errors.InvalidTransition(f"This emergency is {emergency.status}.", status=emergency.status)


@action
def transfer(user: User, request: messages.Transfer) -> Result:
    """Another hospital takes over: there it is pending, with all its staff's alerts; here it is gone.

    By the assignee or an admin; while nobody has it, by any of the staff. Raises EmergencyNotFound,
    Forbidden, HospitalNotFound, ValidationFailed (the same hospital) or InvalidTransition.
    """
    emergency, now = locked(user, request.emergency_id), timezone.now()
    if not user.works_at(emergency.hospital_id):
        raise errors.Forbidden("Only staff of the hospital may transfer.")
    if emergency.assigned_to_id not in (None, user.pk) and not user.is_hospital_admin:
        raise errors.Forbidden("Only the assignee or an admin of the hospital may transfer.")
    _must_be_open(emergency)
    hospital = find_hospital(request.to_hospital_id)
    if hospital.pk == emergency.hospital_id:
        raise errors.ValidationFailed("It is there already.", field="toHospitalId", reason="is the same")
    _move_to(emergency, hospital.pk, user, request.reason, now)
    return Result(ack_data={"emergencyId": emergency.pk})


def _move_to(emergency: Emergency, hospital_id: str, user: User, reason: str, now: datetime) -> None:
    previous, left_behind = emergency.status, audience.listeners(emergency)
    audience.tell_board(emergency)
    audience.stop_sharing(emergency, "transferred")
    Alert.objects.filter(emergency=emergency).delete()
    emergency.hospital_id = hospital_id
    emergency.wait_again(audience.due_from_now(emergency))
    emergency.save_change()
    change = audience.status_change(emergency, user, now, previous, notes=reason)
    entry = audience.note(emergency, EntryKind.TRANSFERRED, user, change, now)
    publish(messages.EmergencyStatusUpdate.of(entry), *left_behind, groups.person(user.pk))
    audience.alert(emergency, audience.audience(emergency), now)
    audience.share_locations(emergency)


# Diversion


@action
def set_diversion(user: User, request: messages.SetDiversion) -> Result:
    """An admin says whether the hospital takes patients. A call for help is stored all the same."""
    if not user.is_hospital_admin or user.hospital_id is None:
        raise errors.Forbidden("Only an admin of the hospital may say this.")
    hospital = find_hospital(user.hospital_id)
    hospital.is_on_diversion = request.on_diversion
    hospital.diversion_reason = (request.reason or "") if request.on_diversion else ""
    hospital.diversion_until = request.until if request.on_diversion else None
    hospital.save(update_fields=["is_on_diversion", "diversion_reason", "diversion_until"])
    status = messages.HospitalStatus(
        hospital_id=hospital.pk,
        on_diversion=hospital.is_on_diversion,
        reason=hospital.diversion_reason or None,
        until=hospital.diversion_until,
        updated_by=user.pk,
        timestamp=timezone.now(),
    )
    publish(status, groups.staff(hospital.pk), groups.announcements(hospital.pk))
    return Result(ack_data={"hospitalId": hospital.pk})
