"""Writing a record into the audit, and verifying that nobody has altered it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Model, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from hplus.audit.models import GENESIS, Head, Record, Verb

CHUNK_ROWS = 2000


def record(actor: Any, verb: str, subject: Model | None = None, **given: Any) -> Record:
    """Write who did what to which row, in the caller's transaction; takes what `record_of` takes."""
    row = record_of(actor, verb, subject, **given)
    record_all([row])
    return row


def record_of(
    actor: Any,
    verb: str,
    subject: Model | None = None,
    *,
    object_type: str = "",
    object_id: str = "",
    hospital_id: str | None = None,
    **details: Any,
) -> Record:
    """Return the record of who did what to which row, for `record_all`.

    The hospital is that of the row, else that of the actor.
    """
    actor_hospital = getattr(actor, "hospital_id", None)
    return Record(
        actor_id=str(getattr(actor, "pk", None) or "")[:150],
        verb=verb,
        object_type=subject._meta.label_lower if subject is not None else object_type,
        object_id=str(subject.pk if subject is not None else object_id)[:150],
        hospital_id=hospital_id or hospital_of(subject) or actor_hospital or "",
        details=details,
    )


@transaction.atomic
def record_all(rows: Sequence[Record]) -> None:
    """Write these records in order, in the caller's transaction.

    The head of the chain stays locked until the transaction ends, so concurrent writers still make one chain.
    """
    if rows:
        _append(_locked_head(), rows)


def _append(head: Head, rows: Sequence[Record]) -> None:
    """Write the rows behind the last one of the chain, whose head is locked."""
    for row in rows:
        row.number, row.previous = head.count + 1, head.digest
        row.digest = row.seal()
        head.count, head.digest = row.number, row.digest
    Record.objects.bulk_create(rows)
    for row in rows:
        head.count, head.digest = row.number, row.digest
        head.save()  # the database lets it advance by one row at a time


# What was read


@dataclass(frozen=True)
class RowsRead:
    """A person has seen rows of one type on a surface. `whose`: id of the row → id of whom it is about."""

    reader: Any
    object_type: str
    whose: dict[str, str]
    surface: str
    hospital_id: str


def record_readings(readings: Sequence[RowsRead], once_in: timedelta) -> None:
    """Record the readings, one row for each; without what is recorded of the same reader and surface already.

    `once_in` is how far back counts. The head of the chain is locked only where there is something new.
    """
    since = timezone.now() - once_in
    if not _unrecorded(readings, since):
        return
    with transaction.atomic():
        head = _locked_head()
        _append(head, [_row_of(reading) for reading in _unrecorded(readings, since)])


def _unrecorded(readings: Sequence[RowsRead], since: datetime) -> list[RowsRead]:
    """The readings without the rows that are recorded since then; those left empty are left out."""
    known = _recorded(readings, since) if readings else set()
    new = [
        replace(
            each,
            whose={
                object_id: whose
                for object_id, whose in each.whose.items()
                if (each.reader.pk, each.surface, object_id) not in known
            },
        )
        for each in readings
    ]
    return [each for each in new if each.whose]


def _recorded(readings: Sequence[RowsRead], since: datetime) -> set[tuple[str, str, str]]:
    """Reader, surface and id of what these readers have been recorded to read since then."""
    readers = {each.reader.pk for each in readings}
    rows = Record.objects.filter(actor_id__in=readers, verb=Verb.READ, at__gte=since)
    return {
        (actor_id, details["surface"], object_id)
        for actor_id, details in rows.values_list("actor_id", "details")
        if "surface" in details
        for object_id in details["whose"]
    }


def _row_of(reading: RowsRead) -> Record:
    only = next(iter(reading.whose)) if len(reading.whose) == 1 else ""
    return Record(
        actor_id=reading.reader.pk,
        verb=Verb.READ,
        object_type=reading.object_type,
        object_id=only[:150],
        hospital_id=reading.hospital_id,
        details={"surface": reading.surface, "whose": reading.whose},
    )


def hospital_of(row: Model | None) -> str:
    """Return the hospital a row belongs to: itself, its own column, or that of its room."""
    if row is None:
        return ""
    if row._meta.model_name == "hospital":
        return str(row.pk)
    owner = row if hasattr(row, "hospital_id") else getattr(row, "room", None)
    return getattr(owner, "hospital_id", None) or ""


def _locked_head() -> Head:
    locked = Head.objects.select_for_update().filter(pk=1)
    if head := locked.first():
        return head
    Head.objects.get_or_create(pk=1)
    return locked.get()


# Verifying the chain


@dataclass(frozen=True)
class Fault:
    number: int
    what: str


def verify() -> tuple[Head, list[Fault]]:
    """Return the head of the chain and every fault in it. Reads each row once, in order.

    A changed row no longer matches its digest; a removed or inserted one breaks the numbers and digests
    around it; rows cut off at the end are missing for the head. Nothing is locked: rows written after the
    head was read are not examined.
    """
    head = Head.objects.filter(pk=1).first() or Head()
    return head, [*_faults(head), *_faults_beyond_head()]


def _faults(head: Head) -> Iterator[Fault]:
    expected, previous = 1, GENESIS
    for row in _rows_up_to(head.count):
        if row.number > expected:
            yield Fault(expected, f"{row.number - expected} missing from here on")
        elif row.previous != previous:
            yield Fault(row.number, "does not follow the row before it")
        if row.seal() != row.digest:
            yield Fault(row.number, "was changed")
        expected, previous = row.number + 1, row.digest
    if expected <= head.count:
        yield Fault(expected, f"{head.count - expected + 1} missing at the end")
    elif previous != head.digest:
        yield Fault(head.count, "is not the row that the head names as the last")


def _rows_up_to(last: int) -> Iterator[Record]:
    """Read in chunks, so that no statement exceeds the statement timeout."""
    done = -1
    while rows := list(
        Record.objects.filter(number__gt=done, number__lte=last).order_by("number")[:CHUNK_ROWS]
    ):
        yield from rows
        done = rows[-1].number


def _faults_beyond_head() -> Iterator[Fault]:
    """Rows after the head. One statement reads both, so a concurrent writer is no fault."""
    end = Coalesce(Subquery(Head.objects.filter(pk=1).values("count")), 0)
    for number in Record.objects.filter(number__gt=end).order_by("number").values_list("number", flat=True):
        yield Fault(number, "comes after the end of the chain")
