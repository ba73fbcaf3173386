"""The calls for help that made or were added to an emergency, whole and as they were sent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from emergency.models import Emergency, RepeatedCall
from hplus import errors
from hplus.protocol.wire import Shape


class SentCall(Shape):
    """One call, with all that the client sent."""

    at: datetime
    original: dict[str, Any]


class Calls(Shape):
    """The calls of an emergency, the first one first; `nextCursor` is what to give as `cursor` for more."""

    calls: list[SentCall]
    next_cursor: str | None
    has_more: bool


def calls_of(emergency: Emergency, limit: int, cursor: str | None) -> Calls:
    """Return one page. Raises ValidationFailed where the cursor is none of this list."""
    added = RepeatedCall.objects.filter(emergency=emergency).order_by("pk")
    if cursor:
        added = added.filter(pk__gt=_number(cursor))
    first = [] if cursor else [SentCall(at=emergency.requested_at, original=emergency.original)]
    rows = list(added[: limit - len(first) + 1])
    shown = rows[: limit - len(first)]
    has_more = len(rows) > len(shown)
    last = shown[-1].pk if shown else 0
    return Calls(
        calls=[*first, *(SentCall(at=row.at, original=row.original) for row in shown)],
        next_cursor=str(last) if has_more else None,
        has_more=has_more,
    )


def _number(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit()) or len(cursor) > 18:
        raise errors.ValidationFailed("cursor: unknown", field="cursor", reason="is none of this list")
    return int(cursor)
