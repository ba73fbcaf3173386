"""What can be done with notices; socket, REST, admin and every domain above call the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hplus.accounts.models import User
from hplus.notifications.messages import Notified
from hplus.notifications.models import Notification, Priority
from hplus.realtime import groups
from hplus.realtime.tell import deed, tell


@deed
def notify(
    user_ids: Iterable[str],
    *,
    category: str,
    title: str,
    body: str,
    priority: str = Priority.NORMAL,
    data: dict[str, Any] | None = None,
) -> None:
    """One notice for each of these people, from HPlus itself; part of the deed it is called in.

    `data` is a JSON object. Whoever is unknown or deactivated is left out.
    """
    people = User.objects.filter(pk__in=set(user_ids), is_active=True).order_by("pk")
    _give(
        Notification(
            recipient=person,
            hospital_id=person.hospital_id,
            category=category,
            title=title,
            body=body,
            priority=priority,
            data=data or {},
        )
        for person in people
    )


def _give(notices: Iterable[Notification]) -> list[Notification]:
    """Store each and tell its recipient."""
    given = Notification.objects.bulk_create(notices)
    for notice in given:
        assert notice.recipient_id is not None
        tell(Notified.of(notice), groups.person(notice.recipient_id))
    return given
