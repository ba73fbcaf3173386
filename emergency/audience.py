"""Who hears of an emergency, and the entry that is kept of everything said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.utils import timezone

from emergency.messages import (
    BoardChanged,
    EmergencyAlert,
    EmergencyRequest,
    EmergencyStatusUpdate,
    StatusChange,
)
from emergency.models import Alert, Emergency, Entry, EntryKind, HospitalPolicy, Reply
from emergency.status import Status
from hplus.accounts.models import Role, User
from hplus.protocol.wire import Shape
from hplus.realtime import groups
from hplus.realtime.actions import publish
from hplus.realtime.groups import Group
from hplus.realtime.models import Contact
from location.actions import close_grants, fresh_positions, open_grant
from location.geo import distance_m, eta_seconds

TRAVELLING = (Status.ACCEPTED, Status.IN_PROGRESS)

# As readers see it


def shown(emergency: Emergency) -> EmergencyRequest:
    return shown_all([emergency])[0]


def shown_all(emergencies: Iterable[Emergency]) -> list[EmergencyRequest]:
    """Each with the seconds its assignee still needs, where a fresh position tells."""
    found = list(emergencies)
    travelling = {e.assigned_to_id for e in found if e.status in TRAVELLING and e.on_scene_at is None}
    fixes = fresh_positions(travelling - {None}) if travelling else {}
    return [EmergencyRequest.of(e, _eta(e, fixes)) for e in found]


def _eta(emergency: Emergency, fixes: dict[str, tuple[float, float]]) -> int | None:
    fix = fixes.get(emergency.assigned_to_id or "")
    if fix is None or emergency.status not in TRAVELLING or emergency.on_scene_at is not None:
        return None
    return eta_seconds(distance_m(fix, (emergency.lat, emergency.lng)))


# The timeline


def note(
    emergency: Emergency, kind: str, by: User | None, data: Shape | dict[str, Any], now: datetime
) -> Entry:
    """One more entry, never to be changed; the hospital's board shows what came of it."""
    tell_board(emergency)
    fields = data.as_json() if isinstance(data, Shape) else data
    return Entry.objects.create(
        emergency=emergency, kind=kind, at=now, by=by, by_role=by.role if by else "", data=fields
    )


# Who hears


def tell_board(emergency: Emergency) -> None:
    publish(
        BoardChanged(hospital_id=emergency.hospital_id, emergency_id=emergency.pk),
        groups.board(emergency.hospital_id),
    )


def listeners(emergency: Emergency) -> list[Group]:
    """Everyone called to it, its assignee and its requester."""
    called = set(Alert.objects.filter(emergency=emergency).users())
    concerned = called | ({emergency.assigned_to_id} - {None})
    return [*_among_staff(emergency.hospital_id, concerned), groups.person(emergency.requested_by_id)]


def _among_staff(hospital_id: str, user_ids: Iterable[str]) -> list[Group]:
    """One wake-up for a whole staff, and letters only for these; who has left the hospital hears no more."""
    staff = User.objects.staff_of(hospital_id).filter(pk__in=set(user_ids)).order_by("pk")
    members = list(staff.values_list("pk", flat=True))
    return [replace(groups.staff(hospital_id), members=lambda: members)]


def audience(emergency: Emergency) -> list[str]:
    """Who is called at the present level: first the hospital's chosen roles, then all its staff.

    Never the requester.
    """
    staff = User.objects.staff_of(emergency.hospital_id)
    if emergency.escalation_level == 0:
        staff = staff.filter(role__in=HospitalPolicy.of(emergency.hospital_id).alert_roles)
    return list(staff.exclude(pk=emergency.requested_by_id).values_list("pk", flat=True))


def called_before(emergency: Emergency) -> list[str]:
    """Those of the staff who were called at any level."""
    called = Alert.objects.filter(emergency=emergency).exclude(entry=None).users()
    staff = User.objects.staff_of(emergency.hospital_id).filter(pk__in=called)
    return list(staff.values_list("pk", flat=True))


def alert(emergency: Emergency, user_ids: Iterable[str], now: datetime) -> None:
    """Call these people, and remember whom; whoever replied before is asked anew."""
    called = sorted(user_ids)
    if not called:
        return
    if emergency.alerted_at is None:
        emergency.alerted_at = now
        Emergency.objects.filter(pk=emergency.pk).update(alerted_at=now)
    data = {
        "userIds": called,
        "escalationLevel": emergency.escalation_level,
        "emergency": shown(emergency).as_json(),
    }
    entry = note(emergency, EntryKind.ALERTED, None, data, now)
    Alert.objects.bulk_create(
        [Alert(emergency=emergency, user_id=user_id, entry=entry) for user_id in called],
        update_conflicts=True,
        unique_fields=["emergency", "user"],
        update_fields=["entry", "reply", "replied_at"],
    )
    _may_see_presence(emergency, called)
    publish(EmergencyAlert.of(entry), *_among_staff(emergency.hospital_id, called))


def alert_the_rest(emergency: Emergency, now: datetime) -> None:
    """Call those of the audience who have not been called yet."""
    known = Alert.objects.filter(emergency=emergency).exclude(entry=None).users()
    replied = Alert.objects.filter(emergency=emergency).exclude(reply=Reply.NONE).users()
    alert(emergency, set(audience(emergency)) - {*known, *replied}, now)


def remember_reply(emergency: Emergency, user: User, reply: str, now: datetime) -> None:
    fields = {"reply": reply, "replied_at": now}
    Alert.objects.update_or_create(emergency=emergency, user=user, defaults=fields)


def tell_status(entry: Entry, *more: Group, emergency: Emergency) -> None:
    publish(EmergencyStatusUpdate.of(entry), *listeners(emergency), *more)


def status_change(
    emergency: Emergency, by: User, now: datetime, previous: str | None, **said: Any
) -> StatusChange:
    """What an `emergencyStatusUpdate` says of the emergency as it stands now."""
    fields = {"notes": None, "vitals": None, "completion_details": None, **said}
    return StatusChange(
        emergency_id=emergency.pk,
        status=emergency.status,
        previous_status=previous,
        phase=emergency.phase,
        updated_by=by.pk,
        updated_by_role=by.role,
        timestamp=now,
        emergency=shown(emergency),
        **fields,
    )


# Who sees whom


def _may_see_presence(emergency: Emergency, user_ids: list[str]) -> None:
    """Those called and those who wait know of each other whether they are there."""
    waiting = _waiting(emergency)
    Contact.objects.bulk_create(
        [
            Contact(user_id=one, contact_id=other, topic=emergency.pk)
            for member in user_ids
            for person in waiting - {member}
            for one, other in ((member, person), (person, member))
        ],
        ignore_conflicts=True,
    )


def _waiting(emergency: Emergency) -> set[str]:
    """The requester, and the patient where known as one; who names a colleague sees no more of them."""
    patients = User.objects.filter(pk=emergency.patient_id, role=Role.PATIENT)
    return {emergency.requested_by_id, *patients.values_list("pk", flat=True)}


def share_locations(emergency: Emergency) -> None:
    """The staff may see those who wait; they and the staff may see who comes, and how far that is."""
    waiting = _waiting(emergency)
    topic, hospital_id = emergency.pk, emergency.hospital_id
    for person in sorted(waiting):
        open_grant(topic, person, to_hospital=hospital_id, why="emergency")
    if emergency.assigned_to_id is None:
        return
    scene = (emergency.lat, emergency.lng)
    comes = emergency.assigned_to_id
    open_grant(topic, comes, to_hospital=hospital_id, why="emergency", destination=scene)
    for person in sorted(waiting):
        open_grant(topic, comes, to_user=person, why="emergency", destination=scene)
        open_grant(topic, person, to_user=comes, why="emergency")


def stop_sharing(emergency: Emergency, reason: str) -> None:
    """The emergency is over: nobody sees anybody for its sake any more."""
    close_grants(emergency.pk, reason)
    Contact.objects.filter(topic=emergency.pk).delete()


def due_from_now(emergency: Emergency) -> datetime:
    return timezone.now() + HospitalPolicy.of(emergency.hospital_id).wait(emergency.priority)
