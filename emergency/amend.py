"""Correcting an open emergency, or objecting to its cancellation (`emergencyAmend`)."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from emergency import audience, messages, timeline
from emergency.actions import lock_emergency
from emergency.amending import amend_row, may_amend, publish_amended
from emergency.cancellation import reopen
from emergency.current_state import status_change
from emergency.models import Emergency, EntryKind
from emergency.status import Status
from hplus import errors
from hplus.accounts.models import User
from hplus.audit.actions import record
from hplus.audit.models import Verb
from hplus.protocol.wire import missing
from hplus.realtime.actions import Result, action


@action
def amend(user: User, request: messages.Amend) -> Result:
    """Change the fields named; the same values again change nothing. Without any it is an objection.

    Raises EmergencyNotFound, Forbidden, InvalidTransition (it is over), VersionConflict or ValidationFailed.
    """
    emergency, now = lock_emergency(user, request.emergency_id), timezone.now()
    if not request.changes.model_dump(exclude_none=True):
        return _object(user, emergency, request.reason, now)
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
        record(user, Verb.CHANGE, emergency, what="amended", fields=sorted(changed))
    return Result(ack_data={"emergencyId": emergency.pk, "version": emergency.version})


def _object(user: User, emergency: Emergency, reason: str, now: datetime) -> Result:
    """Reopen what others have cancelled. Raises ValidationFailed where it is not cancelled."""
    if emergency.status != Status.CANCELLED:
        raise missing("changes")
    reopen(emergency, user, reason, now)
    record(user, Verb.CHANGE, emergency, what="reopened")
    return Result(ack_data={"emergencyId": emergency.pk, "version": emergency.version})
