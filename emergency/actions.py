"""Actions on emergencies; the socket, REST, the admin site and commands call the same ones.

The call for help is in call_for_help.py, accepting and rejecting in response.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from django.utils import timezone

from emergency import audience, messages, timeline
from emergency.amending import amend_row, changes_of, publish_amended
from emergency.bounds import bounded_fields
from emergency.cancellation import announce_cancellation
from emergency.current_state import status_change
from emergency.models import Alert, Emergency, EntryKind, HospitalPolicy, Reply
from emergency.mutual_aid import keep_part, stop_asking
from emergency.observations import notify_if_worse, observe
from emergency.sharing import share_locations, stop_sharing
from emergency.status import ASSIGNED, MOVES, REQUESTER_MAY_CANCEL, Status, is_before
from emergency.urgency import most_urgent_first
from hplus import errors
from hplus.accounts.actions import find_hospital
from hplus.accounts.models import User
from hplus.audit.actions import record
from hplus.audit.models import Verb
from hplus.protocol.wire import missing
from hplus.realtime import groups
from hplus.realtime.actions import Result, action, in_pages, publish
from hplus.realtime.publishing.envelopes import Envelope
from hplus.realtime.publishing.mailbox import newest_entries_about
from location.actions import close_grants, nearest_users
from location.geo import is_nowhere

MAX_ALERTS_AT_ONCE = 500  # to a new connection; the rest is in the list
MAX_LATE_ALERTS = 100  # in one handshake, which has a deadline

# Reading


def find_emergency(user: User, emergency_id: str) -> Emergency:
    """Return an emergency the user may see. Raises EmergencyNotFound, also for one of another hospital."""
    return Emergency.objects.visible_to(user).find(emergency_id, _not_found())


def lock_emergency(user: User, emergency_id: str) -> Emergency:
    """Lock an emergency the user may see until the action is done. Raises EmergencyNotFound."""
    visible = Emergency.objects.visible_to(user).select_for_update(of=("self",))
    return visible.find(emergency_id, _not_found())


def _not_found() -> errors.EmergencyNotFound:
    return errors.EmergencyNotFound(field="emergencyId")


def nearest_responders(user: User, request: messages.FindNearestResponders) -> Result:
    """Return staff with a fresh position, the nearest first. Raises EmergencyNotFound or Forbidden."""
    emergency = find_emergency(user, request.emergency_id)
    if not user.works_at(emergency.hospital_id):
        raise errors.Forbidden("Only the hospital's staff may ask for responders.")
    staff = User.objects.staff_of(emergency.hospital_id).values_list("pk", flat=True)
    is_known = not is_nowhere(emergency.lat, emergency.lng)
    near = nearest_users(staff, emergency.lat, emergency.lng) if is_known else []
    found = [messages.Responder(**each.model_dump()) for each in near]
    return Result(events=[messages.NearestResponders(emergency_id=emergency.pk, data=found)])


def watch_board(user: User, request: messages.WatchBoard) -> Result:
    """Subscribe an admin to the board of the own hospital, a superuser to that of any.

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


# Alerts for a new connection


def unanswered_alerts(user: User) -> Result:
    """Return `emergencyAlert` of each emergency that waits for the user's reply, the most urgent first.

    A user who was absent when the others were alerted is alerted now.
    """
    if user.is_patient or user.hospital_id is None:
        return Result()
    waiting = Emergency.objects.waiting_for(user).exclude(requested_by=user)
    if not waiting.exists():  # most of the time
        return Result()
    known = Alert.objects.filter(user=user, emergency__in=waiting)
    missing = waiting.exclude(pk__in=known.values("emergency"))
    if user.role not in HospitalPolicy.of(user.hospital_id).alert_roles:
        missing = missing.filter(escalation_level__gt=0, hospital=user.hospital_id)
    if late := list(most_urgent_first(missing).values_list("pk", flat=True)[:MAX_LATE_ALERTS]):
        _alert_late(user, late)
    unanswered = known.filter(reply=Reply.NONE).exclude(entry=None)
    entry_ids = dict(unanswered.values_list("emergency_id", "entry_id"))
    urgent = most_urgent_first(waiting.filter(pk__in=entry_ids)).values_list("pk", flat=True)
    return in_pages([entry_ids[pk] for pk in urgent[:MAX_ALERTS_AT_ONCE]], partial(_alerts_about, user))


def _alerts_about(user: User, entry_ids: Sequence[str]) -> list[Envelope]:
    alerts = newest_entries_about(user, messages.EmergencyAlert.type, entry_ids)
    return sorted(alerts, key=lambda alert: entry_ids.index(alert.subject))


@action
def _alert_late(user: User, emergency_ids: list[str]) -> None:
    """Alert the user in this order, with the rows locked in that of their ids, so that no two deadlock."""
    waiting = Emergency.objects.pending().filter(pk__in=emergency_ids).order_by("pk")
    rows = {row.pk: row for row in waiting.select_for_update(of=("self",))}
    known = set(Alert.objects.filter(user=user, emergency__in=rows).values_list("emergency_id", flat=True))
    for emergency in [rows[pk] for pk in emergency_ids if pk in rows]:
        if emergency.pk not in known:
            at = user.hospital_id if user.hospital_id != emergency.hospital_id else None
            audience.alert(emergency, [user.pk], timezone.now(), at=at)


# Status and phase


@action
def update_status(user: User, request: messages.UpdateStatus) -> Result:
    """Change status or phase, or add notes and vital signs; a priority or place given is an amendment.

    Raises EmergencyNotFound, Forbidden or InvalidTransition.
    """
    emergency, now = lock_emergency(user, request.emergency_id), timezone.now()
    previous = emergency.status
    status = _requested_status(emergency, request)
    _must_be_allowed(user, emergency, status, has_content=_has_content(request))
    has_no_reason = _is_without_reason(user, emergency, status, request.notes)
    is_backward = _set_status(emergency, status, request, now)
    if emergency.is_underway and user.pk == emergency.assigned_to_id:
        emergency.acknowledge(now)
    changes, undone = changes_of(user, emergency, request)
    undone += (["notes"] if has_no_reason else []) + (["phase"] if is_backward else [])
    amended = amend_row(emergency, changes)
    observed = observe(emergency, user, request.vitals, now) if request.vitals else None
    if observed:
        timeline.add_entry(emergency, EntryKind.VITALS, user, observed, now)
    emergency.save_change()
    details, whole = bounded_fields(
        {
            "notes": request.notes,
            "vitals": request.vitals or None,
            "completion_details": request.completion_details,
        }
    )
    change = status_change(emergency, user, now, previous, **details)
    entry = timeline.add_entry(emergency, EntryKind.STATUS, user, change, now, whole=whole)
    if not emergency.is_open:
        stop_sharing(emergency, emergency.status)
    if amended:
        publish_amended(emergency, user, amended, None, now)
    audience.publish_status(entry, *audience.actor_group(emergency, user), emergency=emergency)
    if previous == Status.PENDING:
        stop_asking(emergency)
    notify_if_worse(emergency, observed)
    if status == Status.CANCELLED:
        announce_cancellation(emergency, user, now)
        record(user, Verb.CHANGE, emergency, what="cancelled", previousStatus=previous)
    warnings = {"warnings": undone} if undone else {}
    return Result(ack_data={"emergencyId": emergency.pk, **warnings})


def _requested_status(emergency: Emergency, request: messages.UpdateStatus) -> str:
    """The requested status; the first phase after the acceptance means `in_progress`."""
    status = request.status or emergency.status
    begins = request.phase and emergency.status == status == Status.ACCEPTED
    return Status.IN_PROGRESS if begins else status


def _has_content(request: messages.UpdateStatus) -> bool:
    given = (request.phase, request.notes, request.vitals, request.completion_details)
    return any((*given, request.priority, request.location))


def _must_be_allowed(user: User, emergency: Emergency, status: str, *, has_content: bool) -> None:
    """Check what the user may do at all, then the transition, then whether the user is the assignee.

    Raises Forbidden or InvalidTransition.
    """
    is_dispatcher = audience.is_dispatcher(user, emergency.hospital_id)
    is_responsible = is_dispatcher or user.pk == emergency.assigned_to_id
    is_cancelling = status == Status.CANCELLED
    may_cancel = is_responsible or user.pk == emergency.requested_by_id
    if (is_cancelling and not may_cancel) or (not is_cancelling and not user.works_at(emergency.hospital_id)):
        raise errors.Forbidden("Only the assignee or an admin of the hospital may say this.")
    is_late = is_cancelling and not is_responsible and emergency.status not in REQUESTER_MAY_CANCEL
    is_no_change = status == emergency.status == Status.ACCEPTED and not has_content
    if status not in MOVES[emergency.status] or is_late or is_no_change:
        raise errors.InvalidTransition(
            f"An emergency that is {emergency.status} can't become {status}.", status=emergency.status
        )
    if not is_responsible and not is_cancelling:
        raise errors.Forbidden("Only the assignee or an admin of the hospital may say this.")


def _is_without_reason(user: User, emergency: Emergency, status: str, notes: str | None) -> bool:
    """Whether the assignee cancels a call of somebody else without saying why.

    Raises ValidationFailed for anybody else: the assignee's app may be one that never asks for a reason.
    """
    is_own = user.pk == emergency.requested_by_id
    if status != Status.CANCELLED or is_own or (notes or "").strip():
        return False
    if user.pk != emergency.assigned_to_id:
        raise missing("notes")
    return True


def _set_status(emergency: Emergency, status: str, request: messages.UpdateStatus, now: datetime) -> bool:
    """Set status and phase. Returns whether the phase was left out, because it goes back uncorrected."""
    if status in (Status.COMPLETED, Status.CANCELLED):
        emergency.close(status, now)
    emergency.status = status
    if not request.phase or status not in ASSIGNED:
        return False
    if is_before(request.phase, emergency.phase) and not request.correction:
        return True
    emergency.stamp(request.phase, now)
    return False


# By admins, and between hospitals


@action
def reassign(user: User, request: messages.Reassign) -> Result:
    """Assign an emergency to a member of the staff, as an admin of the hospital.

    Raises EmergencyNotFound, Forbidden, UserNotFound or InvalidTransition.
    """
    emergency, now = lock_emergency(user, request.emergency_id), timezone.now()
    if not audience.is_dispatcher(user, emergency.hospital_id):
        raise errors.Forbidden("Only an admin of the hospital may reassign.")
    assignee = User.objects.staff_of(emergency.hospital_id).filter(pk=request.assignee_id).first()
    if assignee is None:
        raise errors.UserNotFound(field="assigneeId")
    _must_be_open(emergency)
    if emergency.assigned_to_id != assignee.pk:
        former_id = emergency.assigned_to_id
        _reassign_to(emergency, assignee, user, request.reason, now)
        record(user, Verb.CHANGE, emergency, what="reassigned", former=former_id, assignee=assignee.pk)
    return Result(ack_data={"emergencyId": emergency.pk})


def _reassign_to(emergency: Emergency, assignee: User, admin: User, reason: str, now: datetime) -> None:
    previous, former_id = emergency.status, emergency.assigned_to_id
    if former_id:
        close_grants(emergency.pk, "reassigned", subject_id=former_id)
    emergency.assign(assignee, now, by=admin)
    emergency.save_change()
    share_locations(emergency)
    change = status_change(emergency, admin, now, previous, notes=reason)
    entry = timeline.add_entry(emergency, EntryKind.REASSIGNED, admin, change, now)
    others = [groups.person(pk) for pk in (admin.pk, former_id) if pk]
    was_alerted = Alert.objects.filter(emergency=emergency, user=assignee).exclude(entry=None).exists()
    if not was_alerted and assignee.pk != emergency.requested_by_id:
        audience.alert(emergency, [assignee.pk], now)
    reply = Reply.ACCEPTED if assignee.pk == admin.pk else Reply.NONE
    audience.store_reply(emergency, assignee, str(reply), now)
    audience.publish_status(entry, *others, emergency=emergency)
    stop_asking(emergency)


def _must_be_open(emergency: Emergency) -> None:
    if not emergency.is_open:
        raise errors.InvalidTransition(f"This emergency is {emergency.status}.", status=emergency.status)


def must_be_without_patient(emergency: Emergency) -> None:
    """Raises InvalidTransition while the crew is with the patient: nobody else would know where that is."""
    if emergency.is_with_patient:
        raise errors.InvalidTransition(
            "The crew is with the patient; the emergency stays theirs until an admin reassigns it.",
            status=emergency.status,
            phase=emergency.phase,
        )


@action
def transfer(user: User, request: messages.Transfer) -> Result:
    """Hand an emergency over to another hospital, where it is pending and the staff are alerted.

    For the assignee or an admin; while nobody is assigned, for any of the staff. Raises EmergencyNotFound,
    Forbidden, HospitalNotFound, ValidationFailed (the same hospital) or InvalidTransition (it is over, or
    the crew is with the patient).
    """
    emergency, now = lock_emergency(user, request.emergency_id), timezone.now()
    if not user.works_at(emergency.hospital_id):
        raise errors.Forbidden("Only staff of the hospital may transfer.")
    is_dispatcher = audience.is_dispatcher(user, emergency.hospital_id)
    if emergency.assigned_to_id not in (None, user.pk) and not is_dispatcher:
        raise errors.Forbidden("Only the assignee or an admin of the hospital may transfer.")
    _must_be_open(emergency)
    must_be_without_patient(emergency)
    hospital = find_hospital(request.to_hospital_id)
    if hospital.pk == emergency.hospital_id:
        raise errors.ValidationFailed("It is there already.", field="toHospitalId", reason="is the same")
    left_id = emergency.hospital_id
    _transfer_to(emergency, hospital.pk, user, request.reason, now)
    for hospital_id in (left_id, hospital.pk):
        ends = {"from": left_id, "to": hospital.pk}
        record(user, Verb.CHANGE, emergency, hospital_id=hospital_id, what="transferred", **ends)
    return Result(ack_data={"emergencyId": emergency.pk})


def _transfer_to(emergency: Emergency, hospital_id: str, user: User, reason: str, now: datetime) -> None:
    previous, left_hospital_id = emergency.status, emergency.hospital_id
    left_staff = audience.staff_concerned(emergency)
    stop_sharing(emergency, "transferred")
    emergency.hospital_id = hospital_id
    emergency.reset_to_pending(emergency.next_escalation_at())
    emergency.save_change()
    change = status_change(emergency, user, now, previous, notes=reason)
    entry = timeline.add_entry(
        emergency, EntryKind.TRANSFERRED, user, change, now, left_hospital_id=left_hospital_id
    )
    keep_part(emergency, left_hospital_id, entry.pk, now)
    audience.publish_entry(
        messages.EmergencyStatusUpdate, entry, emergency, groups.person(user.pk), staff=left_staff
    )
    stop_asking(emergency)
    Alert.objects.filter(emergency=emergency).delete()
    audience.alert(emergency, audience.users_to_alert(emergency), now)
    share_locations(emergency)


# Diversion


@action
def set_diversion(user: User, request: messages.SetDiversion) -> Result:
    """Put the hospital on diversion, or end that, as its admin. Calls for help are still accepted.

    Raises Forbidden.
    """
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
    record(user, Verb.CHANGE, hospital, what="diversion", on=hospital.is_on_diversion)
    return Result(ack_data={"hospitalId": hospital.pk})
