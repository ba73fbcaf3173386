"""Anonymise emergencies after the retention time: their times stay, personal data is removed."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from emergency.models import Emergency, Entry, RepeatedCall
from emergency.status import OPEN
from hplus.portions import repeat_in_portions
from hplus.protocol.wire import REMOVED

BATCH_ROWS = 50  # each with its timeline
# The keys with personal data, at any depth of an entry.
PERSONAL_FIELDS = {
    "accessNotes", "callbackPhone", "callerName", "callerRelation", "changed",
    "address", "completionDetails", "condition", "description", "isPregnant", "lat", "lng",
    "location", "message", "news2", "note", "notes", "original", "parameters", "patientAge", "patientId",
    "patientName", "patientPhone", "patientSex", "readings", "reason", "rejectionReason",
    "responseNotes", "score", "vitals", "warnings", "whole",
}  # fmt: skip


def expired(before: datetime, kept: Collection[str]) -> dict[str, int]:
    """Return how many rows `anonymise` would change."""
    return {"emergencies": _emergencies(before, kept).count()}


def anonymise(before: datetime, kept: Collection[str]) -> dict[str, int]:
    """Anonymise closed emergencies from before that time, except those by or about the users `kept`.

    Returns how many rows were changed.
    """
    batch = partial(_anonymise_batch, before, kept)
    return {"emergencies": repeat_in_portions(batch, BATCH_ROWS)}


def _emergencies(before: datetime, kept: Collection[str]) -> QuerySet[Emergency]:
    found = Emergency.objects.filter(requested_at__lt=before).exclude(status__in=OPEN)
    found = found.exclude(patient_id__in=kept).exclude(requested_by__in=kept)
    return found.exclude(patient_id=REMOVED)


@transaction.atomic
def _anonymise_batch(before: datetime, kept: Collection[str], limit: int) -> int:
    free = _emergencies(before, kept).select_for_update(skip_locked=True, of=("self",))
    rows = list(free[:limit])
    for row in rows:
        _anonymise_row(row)
    entries = list(Entry.objects.filter(emergency__in=rows))
    for entry in entries:
        entry.data = without_personal_data(entry.data)
    Entry.objects.bulk_update(entries, ["data"], batch_size=200)
    RepeatedCall.objects.filter(emergency__in=rows).update(original={}, fingerprint="")
    return len(rows)


def _anonymise_row(row: Emergency) -> None:
    """Remove personal data; the place is rounded to about ten kilometres."""
    row.patient_id = row.patient_name = row.condition = REMOVED
    row.patient_phone = row.address = row.description = row.estimated_arrival = None
    row.lat, row.lng = round(row.lat, 1), round(row.lng, 1)
    row.caller_name = row.caller_relation = row.callback_phone = row.access_notes = None
    row.patient_age = row.patient_sex = row.is_pregnant = None
    row.vitals, row.readings, row.news2, row.original, row.warnings = None, {}, None, {}, []
    row.fingerprint, row.client_timestamp = "", None
    row.save()


def without_personal_data(value: Any) -> Any:
    """Return the JSON value with the same structure, its personal data replaced."""
    if isinstance(value, list):
        return [without_personal_data(item) for item in value]
    if isinstance(value, dict):
        return {
            key: _blank(item) if key in PERSONAL_FIELDS else without_personal_data(item)
            for key, item in value.items()
        }
    return value


def _blank(value: Any) -> Any:
    if isinstance(value, str):
        return REMOVED
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return type(value)(0)
    return type(value)()
