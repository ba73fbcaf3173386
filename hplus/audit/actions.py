"""Writing a line into the audit, and finding out whether anybody has touched it."""

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
    thing: Model | None = None,
    *,
    object_type: str = "",
    object_id: str = "",
    hospital_id: str | None = None,
    **details: Any,
) -> Record:
    """One line: who did what to which thing. It is there if, and only if, the deed around it is.

    The hospital is the thing's, else the actor's. The end of the chain stays locked until the
    transaction ends, so however many write, it remains one chain.
    """
    at_home = getattr(actor, "hospital_id", None)
    head = _locked_head()
    line = Record(
        number=head.count + 1,
        actor_id=str(getattr(actor, "pk", None) or "")[:150],
        verb=verb,
        object_type=thing._meta.label_lower if thing is not None else object_type,
        object_id=str(thing.pk if thing is not None else object_id)[:150],
        hospital_id=hospital_id or hospital_of(thing) or at_home or "",
        details=details,
        previous=head.digest,
    )
    line.digest = line.seal()
    line.save()
    head.count, head.digest = line.number, line.digest
    head.save()
    return line


def hospital_of(thing: Model | None) -> str:
    """The hospital a row belongs to: itself, its own column, or that of its room."""
    if thing is None:
        return ""
    if thing._meta.model_name == "hospital":
        return str(thing.pk)
    owner = thing if hasattr(thing, "hospital_id") else getattr(thing, "room", None)
    return getattr(owner, "hospital_id", None) or ""


def _locked_head() -> Head:
    Head.objects.get_or_create(pk=1)
    return Head.objects.select_for_update().get(pk=1)


# Looking whether it is whole


@dataclass(frozen=True)
class Fault:
    number: int
    what: str


def verify() -> tuple[Head, list[Fault]]:
    """The end of the chain, and everything that is wrong with it. Reads each row once, in order.

    A row that was changed no longer fits its seal; one that was removed or inserted breaks the
    numbers and the seals around it; rows cut off at the end are missed by the head. Nobody who
    writes meanwhile has to wait: what comes after the head as it was first read is not looked at.
    """
    head = Head.objects.filter(pk=1).first() or Head()
    return head, [*_faults(head), *_beyond_the_end()]


def _faults(head: Head) -> Iterator[Fault]:
    expected, previous = 1, GENESIS
    for line in _lines(head.count):
        if line.number > expected:
            yield Fault(expected, f"{line.number - expected} missing from here on")
        elif line.previous != previous:
            yield Fault(line.number, "does not follow the row before it")
        if line.seal() != line.digest:
            yield Fault(line.number, "was changed")
        expected, previous = line.number + 1, line.digest
    if expected <= head.count:
        yield Fault(expected, f"{head.count - expected + 1} missing at the end")
    elif previous != head.digest:
        yield Fault(head.count, "is not what the chain was said to end with")


def _lines(last: int) -> Iterator[Record]:
    """In portions, so that no single question takes longer than the database allows."""
    done = -1
    while lines := list(
        Record.objects.filter(number__gt=done, number__lte=last).order_by("number")[:CHUNK_ROWS]
    ):
        yield from lines
        done = lines[-1].number


def _beyond_the_end() -> Iterator[Fault]:
    """One statement sees rows and head of the same moment."""
    end = Coalesce(Subquery(Head.objects.filter(pk=1).values("count")), 0)
    for number in Record.objects.filter(number__gt=end).order_by("number").values_list("number", flat=True):
        yield Fault(number, "comes after the end of the chain")
