"""Mutual aid: other hospitals are alerted where nobody accepts; who accepts there takes it over.

Each hospital keeps its part of the record.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from emergency import audience, timeline
from emergency.current_state import status_change
from emergency.models import AidRequest, Alert, Emergency, EntryKind, HospitalPart, HospitalPolicy
from emergency.sharing import stop_sharing, stop_sharing_presence
from emergency.status import Status
from hplus.accounts.models import Hospital, User


def helping_hospitals(policy: HospitalPolicy) -> list[Hospital]:
    """Return the hospitals on the policy's list."""
    return [] if policy._state.adding else list(policy.mutual_aid.order_by("pk"))


def ask_for_help(emergency: Emergency, hospitals: Iterable[Hospital], now: datetime) -> None:
    """Alert those whom each of these hospitals alerts first; who was alerted before is not again."""
    for hospital in hospitals:
        AidRequest.objects.get_or_create(emergency=emergency, hospital=hospital, defaults={"at": now})
        audience.alert_remaining(emergency, now, at=hospital.pk)


def take_over(emergency: Emergency, user: User, left_hospital_id: str, now: datetime) -> None:
    """Record that the user's hospital has the emergency now, and close what the other one could see.

    The row is saved and has the hospital of the user already. The alerts elsewhere stay until `stop_asking`,
    so that the others who were asked hear who has it.
    """
    stop_sharing(emergency, "taken over")
    change = status_change(emergency, user, now, Status.PENDING, notes="mutual aid")
    entry = timeline.add_entry(
        emergency, EntryKind.TRANSFERRED, user, change, now, left_hospital_id=left_hospital_id
    )
    keep_part(emergency, left_hospital_id, entry.pk, now)


def stop_asking(emergency: Emergency) -> None:
    """Ask no other hospital any more: who was alerted there hears nothing further.

    Called when an emergency has ceased to be pending, after the event that says so; when it is pending again,
    the escalation asks anew.
    """
    alerted = Alert.objects.filter(emergency=emergency)
    elsewhere = alerted.exclude(user__hospital=emergency.hospital_id)
    stop_sharing_presence(emergency, elsewhere.user_ids())
    elsewhere.delete()
    AidRequest.objects.filter(emergency=emergency).delete()


def keep_part(emergency: Emergency, hospital_id: str, entry_id: str, now: datetime) -> None:
    """Let the hospital go on reading the record up to now, and the state in this last entry of it."""
    HospitalPart.objects.update_or_create(
        emergency=emergency, hospital_id=hospital_id, defaults={"until": now, "last_entry_id": entry_id}
    )
