"""Times that come in: in UTC, within the calendar, and ahead where only the future makes sense."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime

from hplus import errors

EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2201, 1, 1, tzinfo=UTC)
MOST_AHEAD = timedelta(days=3653)  # ten years: a later end is a slip of the finger


def in_utc(moment: datetime) -> datetime:
    """Return an aware time in UTC. Raises ValueError for one outside of the years 1900 to 2200."""
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is outside of the years 1900 to 2200") from None
    if not EARLIEST <= utc < LATEST:
        raise ValueError("is outside of the years 1900 to 2200")
    return utc


def must_be_ahead(moment: datetime, field: str) -> None:
    """Raise ValidationFailed for a time that has passed, or is more than MOST_AHEAD away."""
    now = datetime.now(UTC)
    if not now < moment <= now + MOST_AHEAD:
        reason = "has passed" if moment <= now else "is more than ten years ahead"
        raise errors.ValidationFailed(f"{field}: {reason}", field=field, reason=reason)


Moment = Annotated[AwareDatetime, AfterValidator(in_utc)]
