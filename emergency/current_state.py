"""An emergency as it stands now, in the shapes that clients get."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from emergency.messages import EmergencyRequest, StatusChange
from emergency.models import Emergency
from emergency.status import UNDERWAY
from emergency.visibility import View
from hplus.accounts.models import User
from location.actions import fresh_positions
from location.geo import Point, distance_m, eta_seconds, is_nowhere

SYSTEM = "system"  # in place of a userId and a role where HPlus itself did it


def state_of(emergency: Emergency) -> EmergencyRequest:
    """Return the emergency, with the seconds its assignee still needs."""
    return states_of([emergency])[0]


def states_of(emergencies: Iterable[Emergency]) -> list[EmergencyRequest]:
    """Return each emergency, with the seconds its assignee still needs, where a fresh position is known."""
    found = list(emergencies)
    assignees = {emergency.assigned_to_id for emergency in found if _is_awaited(emergency)}
    positions = fresh_positions(assignees - {None}) if assignees else {}
    return [EmergencyRequest.of(emergency, _eta_seconds(emergency, positions)) for emergency in found]


def states_seen(emergencies: Sequence[Emergency], views: Iterable[View | None]) -> list[EmergencyRequest]:
    """Return each emergency in its view: staff read all, the patient the chart, a caller neither."""
    return [_seen(*row) for row in zip(emergencies, states_of(emergencies), views, strict=True)]


def _seen(emergency: Emergency, state: EmergencyRequest, view: View | None) -> EmergencyRequest:
    if view is View.STAFF:
        return state
    return state.for_patient() if view is View.PATIENT else state.for_caller(emergency.original)


def _is_awaited(emergency: Emergency) -> bool:
    return emergency.status in UNDERWAY and emergency.on_scene_at is None


def _eta_seconds(emergency: Emergency, positions: dict[str, Point]) -> int | None:
    position = positions.get(emergency.assigned_to_id or "")
    if position is None or not _is_awaited(emergency) or is_nowhere(emergency.lat, emergency.lng):
        return None
    return eta_seconds(distance_m(position, (emergency.lat, emergency.lng)))


def status_change(
    emergency: Emergency, by: User | None, now: datetime, previous: str | None, **details: Any
) -> StatusChange:
    """Return the data of `emergencyStatusUpdate`. `details`: notes, vitals and completion_details, if any.

    Without `by` HPlus itself did it.
    """
    fields = {"notes": None, "vitals": None, "completion_details": None, **details}
    return StatusChange(
        emergency_id=emergency.pk,
        status=emergency.status,
        previous_status=previous,
        phase=emergency.phase,
        updated_by=by.pk if by else SYSTEM,
        updated_by_role=by.role if by else SYSTEM,
        timestamp=now,
        emergency=state_of(emergency),
        **fields,
    )
