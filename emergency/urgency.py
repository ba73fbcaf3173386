"""The order of lists of emergencies, most urgent first, and their pages, bounded in rows and bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import Case, IntegerField, Q, QuerySet, Value, When

from emergency.models import Emergency, Priority
from emergency.status import OPEN, Status
from hplus import errors
from hplus.protocol.wire import Shape, encode, is_storable

MAX_PAGE_BYTES = 64 * 1024
Listed = TypeVar("Listed", bound=Shape)

# Nobody has it, then by priority; those that are over stand last.
_PRIORITIES = [When(priority=name, then=Value(rank)) for rank, name in enumerate(reversed(Priority.values))]
_STATUSES = [When(status=Status.PENDING, then=Value(0)), When(status__in=OPEN, then=Value(10))]
URGENCY = Case(*_STATUSES, default=Value(20), output_field=IntegerField()) + Case(
    When(~Q(status__in=OPEN), then=Value(0)), *_PRIORITIES, default=Value(9), output_field=IntegerField()
)
_OVER = 20


@dataclass(frozen=True)
class Page:
    """Rows of a list, and the cursor of the next page; None where the list ends."""

    rows: list[Emergency]
    next_cursor: str | None


def most_urgent_first(found: QuerySet[Emergency]) -> QuerySet[Emergency]:
    """Open ones by status, priority and waiting time; then those that are over, the latest first."""
    ended_last = Case(When(status__in=OPEN, then="requested_at"), default=None)
    ordered = found.annotate(urgency=URGENCY, waits_since=ended_last)
    return ordered.order_by("urgency", "waits_since", "-requested_at", "pk")


def page_of(found: QuerySet[Emergency], limit: int, cursor: str | None) -> Page:
    """Return the page after the emergency whose id is the cursor, in the order of `most_urgent_first`.

    Raises ValidationFailed where the cursor is none of this list.
    """
    ordered = most_urgent_first(found)
    if cursor:
        ordered = ordered.filter(_after(_last_shown(found, cursor)))
    rows = list(ordered[: limit + 1])
    return Page(rows[:limit], rows[limit - 1].pk if len(rows) > limit else None)


def _last_shown(found: QuerySet[Emergency], cursor: str) -> Any:
    last = most_urgent_first(found).filter(pk=cursor).first() if is_storable(cursor) else None
    if last is None:
        raise errors.ValidationFailed("cursor: unknown", field="cursor", reason="is none of this list")
    return last


def _after(last: Any) -> Q:
    same = Q(urgency=last.urgency)
    at, pk = last.requested_at, last.pk
    later = Q(requested_at__lt=at) if last.urgency >= _OVER else Q(requested_at__gt=at)
    return Q(urgency__gt=last.urgency) | same & (later | Q(requested_at=at, pk__gt=pk))


def fitting(shown: Iterable[Listed], most_bytes: int = MAX_PAGE_BYTES) -> tuple[list[dict[str, Any]], bool]:
    """Return those that fit, but at least one, as JSON objects, and whether some did not fit."""
    kept: list[dict[str, Any]] = []
    for each in shown:
        fields = each.as_json()
        most_bytes -= len(encode(fields)) + 1
        if most_bytes < 0 and kept:
            return kept, True
        kept.append(fields)
    return kept, False
