"""What becomes of calls when their time is over: who called whom, and when, stays."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db.models import QuerySet

from calls.models import Call, Participant
from hplus.protocol.wire import REMOVED

# Why a call ended, in our own words; whatever else stands there somebody has said.
OUR_REASONS = ("", "rejected", "hungUp", "cancelled", "missed", "dropped", "busy")


def expired(before: datetime, kept: Collection[str]) -> dict[str, int]:
    """How much `anonymise` would replace."""
    return {"calls": _calls(before, kept).count()}


def anonymise(before: datetime, kept: Collection[str]) -> dict[str, int]:
    """The reasons people gave in calls of before that time, but in those of the people kept."""
    return {"calls": _calls(before, kept).update(end_reason=REMOVED)}


def _calls(before: datetime, kept: Collection[str]) -> QuerySet[Call]:
    of_kept = Participant.objects.filter(user__in=kept).values("call")
    found = Call.objects.filter(started_at__lt=before).exclude(end_reason__in=(*OUR_REASONS, REMOVED))
    return found.exclude(pk__in=of_kept)
