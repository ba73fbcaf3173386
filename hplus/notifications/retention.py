"""Counting and anonymising notices past their retention."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db.models import QuerySet

from hplus.notifications.models import Notification
from hplus.portions import update_in_portions
from hplus.protocol.wire import REMOVED


def expired(before: datetime, kept: Collection[str]) -> dict[str, int]:
    """Count what `anonymise` would replace."""
    return {"notices": _notices(before, kept).count()}


def anonymise(before: datetime, kept: Collection[str]) -> dict[str, int]:
    """Replace the texts of notices sent before that time, except those to the people in `kept`."""
    return {"notices": update_in_portions(_notices(before, kept), title=REMOVED, body="", data={})}


def _notices(before: datetime, kept: Collection[str]) -> QuerySet[Notification]:
    found = Notification.objects.filter(sent_at__lt=before).exclude(title=REMOVED)
    return found.exclude(recipient__in=kept)
