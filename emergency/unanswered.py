"""A caller whom nobody answers hears of it, with the number to call instead."""

from __future__ import annotations

from typing import Any

from emergency import audience
from emergency.models import Emergency, HospitalPolicy
from hplus.accounts.models import Hospital
from hplus.notifications.actions import notify


def reach_of(hospital: Hospital, alerted: list[str]) -> dict[str, Any]:
    """Return what `emergencyCreated` adds: who is alerted and reachable, and the diversion."""
    return {
        "alertedCount": len(alerted),
        "reachableCount": len(audience.reachable_among(alerted)),
        "onDiversion": hospital.is_on_diversion,
        "diversionReason": hospital.diversion_reason or None,
    }


def tell_requester(emergency: Emergency) -> None:
    """Send the requester `emergencyUnanswered`; one that is unread is updated."""
    number = HospitalPolicy.of(emergency.hospital_id).emergency_number
    notify(
        [emergency.requested_by_id],
        category="emergencyUnanswered",
        title="Nobody has answered your call for help yet",
        body=f"Call {number}. Your call stays open and the hospital goes on asking for help.",
        priority="urgent",
        data={"emergencyId": emergency.pk, "emergencyNumber": number},
        renews="emergencyId",
    )
