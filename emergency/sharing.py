"""During an emergency its people may see each other's positions and presence."""

from __future__ import annotations

from emergency.models import Emergency
from hplus.realtime.models import Contact
from location.actions import close_grants, open_grant


def share_locations(emergency: Emergency) -> None:
    """Grant positions: requester and patient to the staff; the assignee to staff, requester and patient.

    The assignee sees the requester and the patient too. Repeating a call changes nothing.
    """
    waiting = sorted(people_waiting(emergency))
    reason_id, hospital_id = emergency.pk, emergency.hospital_id
    for user_id in waiting:
        open_grant(reason_id, user_id, to_hospital=hospital_id, why="emergency")
    assignee_id = emergency.assigned_to_id
    if assignee_id is None:
        return
    scene = (emergency.lat, emergency.lng)
    open_grant(reason_id, assignee_id, to_hospital=hospital_id, why="emergency", destination=scene)
    for user_id in waiting:
        open_grant(reason_id, assignee_id, to_user=user_id, why="emergency", destination=scene)
        open_grant(reason_id, user_id, to_user=assignee_id, why="emergency")


def share_presence(emergency: Emergency, alerted_ids: list[str]) -> None:
    """Let those alerted and those waiting see each other's presence."""
    waiting = people_waiting(emergency)
    Contact.objects.bulk_create(
        [
            Contact(user_id=one, contact_id=other, topic=emergency.pk)
            for alerted_id in alerted_ids
            for waiting_id in waiting - {alerted_id}
            for one, other in ((alerted_id, waiting_id), (waiting_id, alerted_id))
        ],
        ignore_conflicts=True,
    )


def stop_sharing(emergency: Emergency, reason: str) -> None:
    """Close all grants of the emergency, and end the sharing of presence."""
    close_grants(emergency.pk, reason)
    Contact.objects.filter(topic=emergency.pk).delete()


def people_waiting(emergency: Emergency) -> set[str]:
    """Return the requester, and the person named as the patient once that person has confirmed."""
    named = {emergency.patient_id} if emergency.patient_confirmed else set()
    return {emergency.requested_by_id, *named}
