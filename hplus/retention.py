"""When the time of what was said is over: each domain replaces its own, here they are called together."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.db.models import QuerySet
from django.utils import timezone

from chat import retention as chat
from emergency import retention as emergency
from hplus.audit.actions import record
from hplus.audit.models import Verb
from hplus.notifications.models import Notification
from location import retention as location

REMOVED = chat.REMOVED


def cutoff(days: int) -> datetime:
    return timezone.now() - timedelta(days=days)


def expired(before: datetime) -> dict[str, int]:
    """How much `anonymise` would replace, by kind; nothing is changed."""
    kept = chat.held_people()
    return {
        **chat.expired(before),
        **emergency.expired(before, kept),
        **location.expired(before, kept),
        "notices": _notices(before, kept).count(),
        "histories": _histories(before).count(),
    }


def anonymise(before: datetime) -> dict[str, int]:
    """Replace texts, names, files and positions from before that time, and write down how many.

    What a legal hold keeps stays: its conversation, and the emergencies, positions and notices of
    the people in it.
    """
    kept = chat.held_people()
    counts = {
        **chat.anonymise(before),
        **emergency.anonymise(before, kept),
        **location.anonymise(before, kept),
        "notices": _notices(before, kept).update(title=REMOVED, body="", data={}),
        "histories": _histories(before).update(object_repr=REMOVED),
    }
    if any(counts.values()):
        record(None, Verb.ANONYMISE, **counts)
    return counts


def anonymise_what_expired() -> int:
    """By the setting; 0 days keeps everything."""
    if not settings.HPLUS_RETENTION_DAYS:
        return 0
    return sum(anonymise(cutoff(settings.HPLUS_RETENTION_DAYS)).values())


def _notices(before: datetime, kept: set[str]) -> QuerySet[Notification]:
    found = Notification.objects.filter(sent_at__lt=before).exclude(title=REMOVED)
    return found.exclude(recipient__in=kept)


def _histories(before: datetime) -> QuerySet[LogEntry]:
    return LogEntry.objects.filter(action_time__lt=before).exclude(object_repr=REMOVED)
