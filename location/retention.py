"""What becomes of positions when their time is over."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db.models import QuerySet

from location.models import Fix, Grant, Latest


def expired(before: datetime, kept: Collection[str]) -> dict[str, int]:
    """How much `anonymise` would remove."""
    return {"positions": sum(rows.count() for rows in _positions(before, kept))}


def anonymise(before: datetime, kept: Collection[str]) -> dict[str, int]:
    """Tracks, last positions and destinations of before that time, but those of the people kept."""
    fixes, latest, destinations = _positions(before, kept)
    removed = fixes.delete()[0] + latest.delete()[0]
    return {"positions": removed + destinations.update(destination_lat=None, destination_lng=None)}


def _positions(
    before: datetime, kept: Collection[str]
) -> tuple[QuerySet[Fix], QuerySet[Latest], QuerySet[Grant]]:
    destinations = Grant.objects.closed().filter(closed_at__lt=before, destination_lat__isnull=False)
    return (
        Fix.objects.filter(received_at__lt=before).exclude(user__in=kept),
        Latest.objects.filter(received_at__lt=before).exclude(user__in=kept),
        destinations.exclude(subject__in=kept),
    )
