"""Writing a record into the audit, and verifying that nobody has altered it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Model, Subquery
from django.db.models.functions import Coalesce

from hplus.audit.models import GENESIS, Head, Record, Verb

CHUNK_ROWS = 2000


@transaction.atomic
def record(
    actor: Any,
    verb: Verb,
    subject: Model | None = None,
    *,
    object_type: str = "",
    object_id: str = "",
    hospital_id: str | None = None,
    **details: Any,
) -> Record:
    """Write who did what to which row, in the caller's transaction.

    The hospital is that of the row, else that of the actor. The head of the chain stays locked until the
    transaction ends, so concurrent writers still make one chain.
    """
    actor_hospital = getattr(actor, "hospital_id", None)
    head = _locked_head()
    row = Record(
        number=head.count + 1,
        actor_id=str(getattr(actor, "pk", None) or "")[:150],
        verb=verb,
        object_type=subject._meta.label_lower if subject is not None else object_type,
        object_id=str(subject.pk if subject is not None else object_id)[:150],
        hospital_id=hospital_id or hospital_of(subject) or actor_hospital or "",
        details=details,
        previous=head.digest,
    )
    row.digest = row.seal()
    row.save()
    head.count, head.digest = row.number, row.digest
    head.save()
    return row


def hospital_of(row: Model | None) -> str:
    """Return the hospital a row belongs to: itself, its own column, or that of its room."""
    if row is None:
        return ""
    if row._meta.model_name == "hospital":
        return str(row.pk)
    owner = row if hasattr(row, "hospital_id") else getattr(row, "room", None)
    return getattr(owner, "hospital_id", None) or ""


def _locked_head() -> Head:
    Head.objects.get_or_create(pk=1)
    return Head.objects.select_for_update().get(pk=1)


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
