"""A further call for help by somebody who has called often: added to the newest open emergency.

No call is refused; its effect on others is bounded (from one requester three in ten minutes make emergencies,
from staff thirty).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from emergency import timeline
from emergency.amending import amend_row, publish_amended
from emergency.bounds import shortened
from emergency.lenient import as_object, as_text
from emergency.messages import Changes, RequestHelp
from emergency.models import Emergency, EntryKind, Priority, RepeatedCall
from emergency.observations import notify_if_worse, observe
from emergency.sharing import share_locations
from hplus.accounts.models import User
from location.geo import is_nowhere

WITHIN = timedelta(minutes=10)
MAX_OWN = 3
MAX_BY_STAFF = 30
ADDED_CHARACTERS = 1_000
DESCRIPTION_CHARACTERS = 4_000


def emergency_to_add_to(user: User, hospital_id: str, now: datetime) -> Emergency | None:
    """Return the requester's newest open emergency there, locked, where a further call makes none.

    The requester's row is locked too, so that calls on many connections are counted one after another.
    """
    list(User.objects.select_for_update(no_key=True).filter(pk=user.pk).values_list("pk"))
    own = Emergency.objects.filter(requested_by=user)
    limit = MAX_OWN if user.is_patient else MAX_BY_STAFF
    if own.filter(requested_at__gt=now - WITHIN).count() < limit:
        return None
    newest = own.open().filter(hospital=hospital_id).order_by("-requested_at")
    return newest.select_for_update(of=("self",)).first()


def add_call(emergency: Emergency, user: User, request: RequestHelp, fingerprint: str, now: datetime) -> None:
    """Keep the call whole, and amend the emergency by what it says that is new.

    Only a higher priority alerts again; of the rest few events a minute leave.
    """
    RepeatedCall.objects.create(
        emergency=emergency,
        requested_by=user,
        at=now,
        original=request.original,
        client_message_id=request.client_message_id,
        fingerprint=fingerprint,
    )
    changed = amend_row(emergency, _changes(emergency, request, now))
    is_due = not timeline.has_told_often(emergency, EntryKind.AMENDED, user, now)
    vitals = as_object(request.vitals) if is_due else None
    observed = observe(emergency, user, vitals, now) if vitals else None
    emergency.save_change()
    if observed:
        timeline.add_entry(emergency, EntryKind.VITALS, user, observed, now)
        notify_if_worse(emergency, observed)
    if "location" in changed:
        share_locations(emergency)
    is_more_urgent = "priority" in changed
    if changed and (is_due or is_more_urgent):
        publish_amended(emergency, user, changed, "called again", now, alert=is_more_urgent)


def _changes(emergency: Emergency, request: RequestHelp, now: datetime) -> Changes:
    order = Priority.values
    is_more_urgent = order.index(request.priority) > order.index(emergency.priority)
    return Changes(
        description=_description(emergency, request, now),
        priority=request.priority if is_more_urgent else None,
        location=None if is_nowhere(request.location.lat, request.location.lng) else request.location,
    )


def _description(emergency: Emergency, request: RequestHelp, now: datetime) -> str | None:
    """Return the description with what the caller says now; None where it was said before."""
    before, more = emergency.description or "", as_text(request.description)
    text = shortened(f"{request.condition}: {more}" if more else request.condition, ADDED_CHARACTERS)
    if text in before or (request.condition == emergency.condition and (more or "") in before):
        return None
    added = f"Called again at {now:%H:%M} UTC: {text}"
    kept = shortened(before, DESCRIPTION_CHARACTERS - len(added) - 1)
    return f"{kept}\n{added}".strip()
