"""The words of the notices."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Self

from hplus.notifications.models import Notification
from hplus.wire import Durable

# What HPlus says


class Notified(Durable):
    """There is something you should know."""

    type = "notification"
    notification_id: str
    category: str
    title: str
    body: str
    priority: str
    data: dict[str, Any]
    timestamp: datetime

    @classmethod
    def of(cls, notice: Notification) -> Self:
        return cls(
            notification_id=notice.notification_id,
            category=notice.category,
            title=notice.title,
            body=notice.body,
            priority=notice.priority,
            data=notice.data,
            timestamp=notice.sent_at,
        )

    @classmethod
    def retell(cls, subjects: Iterable[str]) -> dict[str, Durable]:
        found = Notification.objects.filter(pk__in=list(subjects))
        return {notice.pk: cls.of(notice) for notice in found}

    def about(self) -> str:
        return self.notification_id

    def push_category(self) -> str:
        return self.category
