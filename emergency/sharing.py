"""During an emergency its people may see each other's positions and presence."""

from __future__ import annotations

from collections.abc import Iterable

from chat.first_contact import agree_between
from emergency.models import Emergency
from hplus.realtime.models import Contact
from location.actions import close_grants, open_grant
from location.geo import is_nowhere


def share_locations(emergency: Emergency) -> None:
    """Grant positions: requester and patient to the staff; the assignee to staff, requester and patient.

    The assignee sees the requester and the patient too. Repeating a call changes nothing.
    """
    waiting = sorted(people_waiting(emergency))
    reason_id, hospital_id = emergency.pk, emergency.hospital_id
    _share_presence_of_assignee(emergency)
    for user_id in waiting:
        open_grant(reason_id, user_id, to_hospital=hospital_id, why="emergency")
    assignee_id = emergency.assigned_to_id
    if assignee_id is None:
        return
    scene = None if is_nowhere(emergency.lat, emergency.lng) else (emergency.lat, emergency.lng)
    open_grant(reason_id, assignee_id, to_hospital=hospital_id, why="emergency", destination=scene)
    for user_id in waiting:
        open_grant(reason_id, assignee_id, to_user=user_id, why="emergency", destination=scene)
        open_grant(reason_id, user_id, to_user=assignee_id, why="emergency")


def share_presence(emergency: Emergency, alerted_ids: list[str]) -> None:
    """Let those alerted see the presence of those waiting; these see that of the assignee alone."""
    _let_see(alerted_ids, people_waiting(emergency), emergency.pk)
    agree_between(people_waiting(emergency), alerted_ids)


def _share_presence_of_assignee(emergency: Emergency) -> None:
    """Let those waiting and the assignee see each other's presence, and no longer that of one before."""
    waiting, assignees = people_waiting(emergency), {emergency.assigned_to_id} - {None}
    seen_by_waiting = Contact.objects.filter(topic=emergency.pk, contact__in=waiting)
    seen_by_waiting.exclude(user__in=waiting | assignees).delete()
    _let_see(assignees, waiting, emergency.pk)
    _let_see(waiting, assignees, emergency.pk)
    if assignees:
        agree_between(waiting, assignees)


def _let_see(readers: Iterable[str], seen: Iterable[str], topic: str) -> None:
    """Let each of the readers see the presence of each of the others."""
    pairs = [(reader, other) for reader in readers for other in seen if reader != other]
    Contact.objects.bulk_create(
        [Contact(user_id=other, contact_id=reader, topic=topic) for reader, other in pairs],
        ignore_conflicts=True,
    )


def stop_sharing(emergency: Emergency, reason: str) -> None:
    """Close all grants of the emergency, and end the sharing of presence."""
    close_grants(emergency.pk, reason)
    Contact.objects.filter(topic=emergency.pk).delete()


def stop_sharing_presence(emergency: Emergency, reader_ids: Iterable[str]) -> None:
    """Show these, who are not concerned any more, nobody's presence for this emergency."""
    concerned = people_waiting(emergency) | {emergency.assigned_to_id}
    readers = set(reader_ids) - concerned
    Contact.objects.filter(topic=emergency.pk, contact__in=readers).delete()


def people_waiting(emergency: Emergency) -> set[str]:
    """Return the requester, and the person named as the patient once that person has confirmed."""
    named = {emergency.patient_id} if emergency.patient_confirmed else set()
    return {emergency.requested_by_id, *named}
