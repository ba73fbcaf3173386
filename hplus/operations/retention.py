"""Retention over all domains: counts and anonymises what is older than the setting allows."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.db.models import QuerySet
from django.utils import timezone

from calls import retention as calls
from chat import retention as chat
from emergency import retention as emergency
from hplus.audit.actions import record
from hplus.audit.models import Verb
from hplus.notifications import retention as notifications
from hplus.portions import update_in_portions
from hplus.protocol.wire import REMOVED
from location import retention as location


def cutoff(days: int) -> datetime:
    return timezone.now() - timedelta(days=days)


def expired(before: datetime) -> dict[str, int]:
    """Count what `anonymise` would replace, by kind."""
    kept = chat.users_under_legal_hold()
    return {
        **chat.expired(before),
        **emergency.expired(before, kept),
        **location.expired(before, kept),
        **calls.expired(before, kept),
        **notifications.expired(before, kept),
        "histories": _histories(before).count(),
    }


def anonymise(before: datetime) -> dict[str, int]:
    """Replace texts, names, files and positions from before that time, and record how many in the audit.

    A legal hold keeps its conversation, and the emergencies, positions, calls and notices of the people
    in it.
    """
    kept = chat.users_under_legal_hold()
    counts = {
        **chat.anonymise(before),
        **emergency.anonymise(before, kept),
        **location.anonymise(before, kept),
        **calls.anonymise(before, kept),
        **notifications.anonymise(before, kept),
        "histories": update_in_portions(_histories(before), object_repr=REMOVED),
    }
    if any(counts.values()):
        record(None, Verb.ANONYMISE, **counts)
    return counts


def anonymise_expired() -> int:
    """Anonymise what is older than HPLUS_RETENTION_DAYS; 0 keeps everything. Returns how much."""
    if not settings.HPLUS_RETENTION_DAYS:
        return 0
    return sum(anonymise(cutoff(settings.HPLUS_RETENTION_DAYS)).values())


def _histories(before: datetime) -> QuerySet[LogEntry]:
    return LogEntry.objects.filter(action_time__lt=before).exclude(object_repr=REMOVED)
