"""An amendment as part of an action: what changes in the row, and who is told or alerted again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ValidationError

from emergency import audience, timeline
from emergency.current_state import state_of
from emergency.lenient import as_text
from emergency.messages import Amended, Changes, EmergencyAmended, UpdateStatus
from emergency.models import Emergency, EntryKind, Priority
from emergency.observations import score_again
from emergency.sharing import share_locations
from emergency.status import Status
from hplus.accounts.models import User
from location.geo import distance_m

MOVED_M = 50  # from here on it is another place to go to
REQUESTER_MAY_AMEND = {"location", "description", "access_notes"}
Changed = dict[str, dict[str, Any]]  # the field by its wire name → {"from", "to"}


def may_amend(user: User, emergency: Emergency) -> set[str]:
    """Return the fields this user may amend: assignee and the hospital's admins all, the requester a few."""
    if audience.is_dispatcher(user, emergency.hospital_id) or user.is_superuser:
        return set(Changes.model_fields)
    if user.pk == emergency.assigned_to_id and user.works_at(emergency.hospital_id):
        return set(Changes.model_fields)
    return REQUESTER_MAY_AMEND if user.pk == emergency.requested_by_id else set()


def changes_of(user: User, emergency: Emergency, request: UpdateStatus) -> tuple[Changes, list[str]]:
    """Return the priority and location a status update carries, and the names of those that can't be done."""
    done, undone = Changes(), []
    for name in ("priority", "location"):
        value = getattr(request, name)
        if value is None:
            continue
        read = _read(name, value)
        if read is None or name not in may_amend(user, emergency):
            undone.append(name)
        else:
            done = done.model_copy(update={name: getattr(read, name)})
    return done, undone


def _read(name: str, value: Any) -> Changes | None:
    try:
        return Changes.model_validate({name: value})
    except ValidationError:
        return None


def amend_row(emergency: Emergency, changes: Changes) -> Changed:
    """Change the row, without saving it; return what differs."""
    changed: Changed = {}
    for name in Changes.model_fields:
        if (wanted := getattr(changes, name)) is None:
            continue
        before = _value(emergency, name)
        if name == "location":
            emergency.lat, emergency.lng = wanted.lat, wanted.lng
            emergency.address = as_text(wanted.address) or emergency.address
            emergency.warnings = [name for name in emergency.warnings if name != "location"]
        else:
            setattr(emergency, name, wanted)
        if (after := _value(emergency, name)) != before:
            changed[Changes.model_fields[name].alias or name] = {"from": before, "to": after}
    if {"patientAge", "isPregnant"} & set(changed):
        score_again(emergency)
    if _needs_alert(changed) and emergency.status == Status.PENDING:
        due = emergency.next_escalation_at()
        emergency.escalate_at = min(due, emergency.escalate_at or due)
    return changed


def _value(emergency: Emergency, name: str) -> Any:
    if name == "location":
        return {"lat": emergency.lat, "lng": emergency.lng, "address": emergency.address}
    return getattr(emergency, name)


def publish_amended(
    emergency: Emergency,
    user: User,
    changed: Changed,
    reason: str | None,
    now: datetime,
    *,
    alert: bool = True,
) -> None:
    """Publish the amendment of a saved row; alert again while nobody has accepted and it matters."""
    if "location" in changed and emergency.is_open:
        share_locations(emergency)
    said = Amended(
        emergency_id=emergency.pk,
        changed=changed,
        by=user.pk,
        reason=reason,
        emergency=state_of(emergency),
    )
    entry = timeline.add_entry(emergency, EntryKind.AMENDED, user, said, now)
    audience.publish_entry(EmergencyAmended, entry, emergency, *audience.actor_group(emergency, user))
    if alert and _needs_alert(changed) and emergency.status == Status.PENDING:
        alerted = {*audience.users_to_alert(emergency), *audience.staff_alerted_before(emergency)}
        audience.alert(emergency, alerted, now)


def _needs_alert(changed: Changed) -> bool:
    """Whether it is more urgent now, or somewhere else."""
    if "priority" in changed:
        order = Priority.values
        if order.index(changed["priority"]["to"]) > order.index(changed["priority"]["from"]):
            return True
    if "location" not in changed:
        return False
    places = [(place["lat"], place["lng"]) for place in changed["location"].values()]
    return distance_m(places[0], places[1]) > MOVED_M
