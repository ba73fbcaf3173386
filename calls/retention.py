"""Anonymise calls after the retention time: who called whom, and when, stays."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db.models import QuerySet

from calls.models import Call, Participant
from hplus.portions import update_in_portions
from hplus.protocol.wire import REMOVED

# The end reasons that HPlus sets; any other was entered by a person.
SYSTEM_REASONS = ("", "rejected", "hungUp", "cancelled", "missed", "dropped", "busy")


def expired(before: datetime, kept: Collection[str]) -> dict[str, int]:
    """Return how many rows `anonymise` would change."""
    return {"calls": _calls(before, kept).count()}


def anonymise(before: datetime, kept: Collection[str]) -> dict[str, int]:
    """Remove the entered end reasons of calls from before that time, except of calls with users `kept`.

    Returns how many rows were changed.
    """
    return {"calls": update_in_portions(_calls(before, kept), end_reason=REMOVED)}


def _calls(before: datetime, kept: Collection[str]) -> QuerySet[Call]:
    of_kept = Participant.objects.filter(user__in=kept).values("call")
    found = Call.objects.filter(started_at__lt=before).exclude(end_reason__in=(*SYSTEM_REASONS, REMOVED))
    return found.exclude(pk__in=of_kept)
