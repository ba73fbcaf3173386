"""Doing what is due: in a fair order, and so that one emergency that fails holds up no other."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django.db.models import QuerySet

from emergency.models import Emergency

logger = logging.getLogger(__name__)
MAX_AT_ONCE = 100
MAX_READ = 10_000
Row = TypeVar("Row")


def ids_in_fair_order(due: QuerySet[Emergency], deadline: str) -> list[str]:
    """Return the ids of up to MAX_AT_ONCE of these, by their deadline but fairly."""
    rows = due.order_by(deadline).values_list("pk", "hospital_id", "requested_by_id")
    return [pk for pk, *_ in in_fair_order(rows[:MAX_READ])][:MAX_AT_ONCE]


def in_fair_order(rows: Iterable[tuple[Any, Any, Any]]) -> list[tuple[Any, Any, Any]]:
    """Return one of each hospital before the second of any, and within it one of each requester.

    A row is an id, its hospital and its requester, in the order in which they are due.
    """
    return _one_of_each(_one_of_each(rows, lambda row: row[1:]), lambda row: row[1])


def _one_of_each(rows: Iterable[Row], owner: Callable[[Row], Any]) -> list[Row]:
    """Return the first row of each owner, then the second ones, and so on."""
    seen: Counter[Any] = Counter()
    ranked = []
    for row in rows:
        ranked.append((seen[owner(row)], row))
        seen[owner(row)] += 1
    return [row for _, row in sorted(ranked, key=lambda pair: pair[0])]


def each_alone(act: Callable[[str], int], ids: Iterable[str]) -> int:
    """Do it for each of these emergencies; one that fails is logged and tried again. Returns how many."""
    return sum(_attempt(act, emergency_id) for emergency_id in ids)


def _attempt(act: Callable[[str], int], emergency_id: str) -> int:
    try:
        return act(emergency_id)
    except Exception:
        logger.exception("What is due for emergency %s failed and is tried again", emergency_id)
        return 0
