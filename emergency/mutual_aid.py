"""Mutual aid: other hospitals are alerted where nobody accepts; who accepts there takes it over.

Each hospital keeps its part of the record.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from emergency import audience, timeline
from emergency.current_state import status_change
from emergency.models import AidRequest, Alert, Emergency, EntryKind, HospitalPart, HospitalPolicy
from emergency.sharing import stop_sharing
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

    The row is saved and has the hospital of the user already.
    """
    stop_sharing(emergency, "taken over")
    change = status_change(emergency, user, now, Status.PENDING, notes="mutual aid")
    entry = timeline.add_entry(
        emergency, EntryKind.TRANSFERRED, user, change, now, left_hospital_id=left_hospital_id
    )
    keep_part(emergency, left_hospital_id, entry.pk, now)
    own = User.objects.staff_of(emergency.hospital_id)
    Alert.objects.filter(emergency=emergency).exclude(user__in=own).delete()
    AidRequest.objects.filter(emergency=emergency).delete()


def keep_part(emergency: Emergency, hospital_id: str, entry_id: str, now: datetime) -> None:
    """Let the hospital go on reading the record up to now, and the state in this last entry of it."""
    HospitalPart.objects.update_or_create(
        emergency=emergency, hospital_id=hospital_id, defaults={"until": now, "last_entry_id": entry_id}
    )
