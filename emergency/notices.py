"""Notices about an emergency to its staff: with the clinical part for those alone who read the chart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from emergency.models import Emergency
from emergency.visibility import readers_among
from hplus.notifications.actions import notify


def notify_staff(
    emergency: Emergency,
    user_ids: Iterable[str],
    *,
    body: str,
    body_without_chart: str,
    data: dict[str, Any],
    of_chart: dict[str, Any] | None = None,
    **notice: Any,
) -> None:
    """Send each of these an urgent notice: `body`, or `body_without_chart` to who reads no chart.

    `of_chart` is added to the `data` of those who read it; `notice` are further arguments of `notify`.
    """
    staff = set(user_ids)
    readers = readers_among(staff, emergency)
    notify(readers, body=body, data={**data, **(of_chart or {})}, priority="urgent", **notice)
    notify(staff - readers, body=body_without_chart, data=data, priority="urgent", **notice)
