"""Remove positions after the retention time."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db.models import QuerySet

from hplus.portions import delete_in_portions, update_in_portions
from location.models import Fix, Grant, Latest


def expired(before: datetime, kept: Collection[str]) -> dict[str, int]:
    """Return how many rows `anonymise` would change."""
    return {"positions": sum(rows.count() for rows in _positions(before, kept))}


def anonymise(before: datetime, kept: Collection[str]) -> dict[str, int]:
    """Remove tracks, latest positions and destinations from before that time, except of the users `kept`.

    Returns how many rows were changed.
    """
    fixes, latest, destinations = _positions(before, kept)
    removed = delete_in_portions(fixes) + delete_in_portions(latest)
    blanked = update_in_portions(destinations, destination_lat=None, destination_lng=None)
    return {"positions": removed + blanked}


def _positions(
    before: datetime, kept: Collection[str]
) -> tuple[QuerySet[Fix], QuerySet[Latest], QuerySet[Grant]]:
    destinations = Grant.objects.closed().filter(closed_at__lt=before, destination_lat__isnull=False)
    return (
        Fix.objects.filter(received_at__lt=before).exclude(user__in=kept),
        Latest.objects.filter(received_at__lt=before).exclude(user__in=kept),
        destinations.exclude(subject__in=kept),
    )
