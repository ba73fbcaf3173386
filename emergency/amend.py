"""Correcting an open emergency (`emergencyAmend`)."""

from __future__ import annotations

from django.utils import timezone

from emergency import audience, messages, timeline
from emergency.actions import lock_emergency
from emergency.amending import amend_row, may_amend, publish_amended
from emergency.current_state import status_change
from emergency.models import EntryKind
from hplus import errors
from hplus.accounts.models import User
from hplus.realtime.actions import Result, action


@action
def amend(user: User, request: messages.Amend) -> Result:
    """Change the fields named; the same values again change nothing.

    Raises EmergencyNotFound, Forbidden, InvalidTransition (it is over) or VersionConflict.
    """
    emergency, now = lock_emergency(user, request.emergency_id), timezone.now()
    allowed = may_amend(user, emergency)
    for name in request.changes.model_dump(exclude_none=True):
        if name not in allowed:
            raise errors.Forbidden(
                "Only the assignee or an admin of the hospital may change this.", field=name
            )
    if not emergency.is_open:
        raise errors.InvalidTransition(f"This emergency is {emergency.status}.", status=emergency.status)
    if request.version not in (None, emergency.version):
        raise errors.VersionConflict(version=emergency.version)
    changed = amend_row(emergency, request.changes)
    if changed:
        emergency.save_change()
        publish_amended(emergency, user, changed, request.reason, now)
        change = status_change(emergency, user, now, emergency.status, notes=request.reason)
        entry = timeline.add_entry(emergency, EntryKind.STATUS, user, change, now)
        audience.publish_status(entry, *audience.actor_group(emergency, user), emergency=emergency)
    return Result(ack_data={"emergencyId": emergency.pk, "version": emergency.version})
