"""What becomes of emergencies when their time is over: the times stay, the people go."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from emergency.models import Emergency, Entry
from emergency.status import OPEN
from hplus.protocol.wire import REMOVED

BATCH_ROWS = 200
# What people say in words or numbers about the patient, wherever it stands in an entry.
TELLING = {
    "address", "completionDetails", "condition", "description", "isPregnant", "lat", "lng",
    "location", "message", "news2", "notes", "original", "parameters", "patientAge", "patientId",
    "patientName", "patientPhone", "patientSex", "readings", "reason", "rejectionReason",
    "responseNotes", "score", "vitals", "warnings",
}  # fmt: skip


def expired(before: datetime, kept: Collection[str]) -> dict[str, int]:
    """How much `anonymise` would replace."""
    return {"emergencies": _emergencies(before, kept).count()}


def anonymise(before: datetime, kept: Collection[str]) -> dict[str, int]:
    """Closed emergencies from before that time, but those by or about the people kept."""
    count = 0
    while done := _next(before, kept):
        count += done
    return {"emergencies": count}


def _emergencies(before: datetime, kept: Collection[str]) -> QuerySet[Emergency]:
    found = Emergency.objects.filter(requested_at__lt=before).exclude(status__in=OPEN)
    found = found.exclude(patient_id__in=kept).exclude(requested_by__in=kept)
    return found.exclude(patient_id=REMOVED)


@transaction.atomic
def _next(before: datetime, kept: Collection[str]) -> int:
    rows = list(_emergencies(before, kept).select_for_update(of=("self",))[:BATCH_ROWS])
    for row in rows:
        _forget(row)
    entries = list(Entry.objects.filter(emergency__in=rows))
    for entry in entries:
        entry.data = without_people(entry.data)
    Entry.objects.bulk_update(entries, ["data"], batch_size=200)
    return len(rows)


def _forget(row: Emergency) -> None:
    """Where it was is kept to about ten kilometres."""
    row.patient_id = row.patient_name = row.condition = REMOVED
    row.patient_phone = row.address = row.description = row.estimated_arrival = None
    row.lat, row.lng = round(row.lat, 1), round(row.lng, 1)
    row.patient_age = row.patient_sex = row.is_pregnant = None
    row.vitals, row.readings, row.news2, row.original, row.warnings = None, {}, None, {}, []
    row.fingerprint, row.client_timestamp = "", None
    row.save()


def without_people(value: Any) -> Any:
    """The same shape, with nothing in it that tells of a patient."""
    if isinstance(value, list):
        return [without_people(item) for item in value]
    if isinstance(value, dict):
        return {key: _blank(item) if key in TELLING else without_people(item) for key, item in value.items()}
    return value


def _blank(value: Any) -> Any:
    if isinstance(value, str):
        return REMOVED
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return type(value)(0)
    return type(value)()
