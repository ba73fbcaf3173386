"""Many rows in portions, each a short transaction: one statement over all of them would hold its locks until
the end, and cut down by a limit it would have done nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import OperationalError, models, transaction

logger = logging.getLogger(__name__)
MOST_ROWS = 5_000  # of one transaction
FEWER_BY = 4  # after a portion that took too long
# SQLSTATE of a statement over its time, and of a lock that did not come in time.
CUT_DOWN = ("57014", "55P03")

Row = TypeVar("Row", bound=models.Model)
Change = Callable[[models.QuerySet[Any]], object]


def delete_in_portions(rows: models.QuerySet[Row], most: int = MOST_ROWS) -> int:
    """Delete these rows. Returns how many. Raises like `in_portions`."""
    return in_portions(rows, lambda chosen: chosen.delete(), most)


def update_in_portions(rows: models.QuerySet[Row], **values: object) -> int:
    """Set these values, which take a row out of the query. Returns how many. Raises like `in_portions`."""
    return in_portions(rows, lambda chosen: chosen.order_by().update(**values))


def in_portions(rows: models.QuerySet[Row], change: Change, most: int = MOST_ROWS) -> int:
    """Apply a change that takes rows out of the query, until none is left but those that others have locked.

    A portion over its time is tried again with fewer rows; between two there is a pause as long as the first.
    Returns how many rows were changed. Raises OperationalError where not even one row can be changed in time.
    """
    return repeat_in_portions(lambda limit: _change_some(rows, change, limit), most)


def repeat_in_portions(work: Callable[[int], int], most: int = MOST_ROWS) -> int:
    """Call with the most rows of a portion until it returns 0. Returns the sum; paces and raises as above."""
    total, limit = 0, most
    while True:
        began = time.monotonic()
        try:
            done = work(limit)
        except OperationalError as failed:
            if limit == 1 or not _is_cut_down(failed):
                raise
            limit = max(1, limit // FEWER_BY)
            logger.info("A portion took too long; the next has %d rows", limit)
            continue
        if not done:
            return total
        total += done
        time.sleep(time.monotonic() - began)


@transaction.atomic
def _change_some(rows: models.QuerySet[Row], change: Change, limit: int) -> int:
    """Change so many rows. Those that others have locked are left to the next time."""
    # Sorting all of them would take longer than the rest.
    ordered = rows if rows.query.order_by else rows.order_by()
    found = list(ordered.values_list("pk", flat=True)[:limit])
    free = rows.model._base_manager.filter(pk__in=found).select_for_update(skip_locked=True)
    locked = list(free.values_list("pk", flat=True))
    if locked:
        change(rows.filter(pk__in=locked))
    return len(locked)


def _is_cut_down(failed: OperationalError) -> bool:
    return getattr(failed.__cause__, "sqlstate", None) in CUT_DOWN
