"""Notices to people, roles, departments or a whole hospital, and marking them as read."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_snake

from hplus.accounts.models import STAFF_ROLES
from hplus.notifications.models import Notification
from hplus.protocol.numbers import must_be_bounded
from hplus.protocol.texts import must_be_visible
from hplus.protocol.wire import Durable, Event, OptionalId, Request, Shape, encode, missing

# Sent by HPlus alone: an app that gets `message` expects a ChatMessage in `data`.
OWN_CATEGORIES = (
    "message",
    "emergencyEscalated",
    "emergencyStalled",
    "emergencyUnanswered",
    "emergencyCancelled",
    "severalCancellations",
    "deteriorating",
    "areYouThePatient",
    "missedCall",
    "passwordChanged",
    "newDevice",
)
DATA_BYTES = 4096  # it is stored once for each recipient


def _staff_role(role: str | None) -> str | None:
    if role is not None and role not in STAFF_ROLES:
        raise ValueError(f"must be one of {', '.join(STAFF_ROLES)}")
    return role


def _small(data: dict[str, Any]) -> dict[str, Any]:
    must_be_bounded(data)
    if len(encode(data)) > DATA_BYTES:
        raise ValueError(f"must have at most {DATA_BYTES} bytes as JSON")
    return data


def _sendable(category: str) -> str:
    if category in OWN_CATEGORIES:
        raise ValueError("is reserved for HPlus itself")
    return category


def _needed_for(action: Any) -> tuple[str, ...]:
    return ("notificationId",) if action == "markRead" else ("target", "title", "body")


StaffRole = Annotated[OptionalId, AfterValidator(_staff_role)]
Category = Annotated[
    str,
    StringConstraints(min_length=1, max_length=50, strip_whitespace=True),
    AfterValidator(_sendable),
]
Title = Annotated[
    Annotated[
        str,
        StringConstraints(min_length=1, max_length=200, strip_whitespace=True),
        AfterValidator(must_be_visible),
    ]
    | None,
    Field(),
]
Body = Annotated[str | None, StringConstraints(max_length=4_000)]

# Requests


class Target(Shape):
    """Who gets a notice, within the sender's hospital. Several fields together narrow the choice."""

    user_id: OptionalId = None
    role: StaffRole = None
    department: OptionalId = None
    hospital_id: OptionalId = None

    @property
    def is_hospital_wide(self) -> bool:
        return not (self.user_id or self.role or self.department)

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if self.is_hospital_wide and not self.hospital_id:
            raise ValueError("names neither userId, role, department nor hospitalId")
        return self


class Notify(Request):
    """Send a notice to people of your hospital, or mark one of your own as read (action `markRead`).

    Staff only; a notice to the whole hospital needs an admin. Each recipient gets a `notification`, and a
    push where no connection is open. The `ack` carries `recipients`, or for `markRead` the `unreadCount`
    that is left.
    """

    type = "notification"
    action: Literal["send", "markRead"] = "send"
    target: Target | None = Field(default=None, examples=[{"role": "nurse"}])
    title: Title = Field(default=None, examples=["Lift out of order"])
    body: Body = Field(default=None, examples=["Please use the one in the east wing."])
    category: Category = "general"
    priority: Literal["low", "normal", "high", "urgent"] = "normal"
    data: Annotated[dict[str, Any], AfterValidator(_small)] = {}
    notification_id: OptionalId = None

    @classmethod
    def fields_of(cls, frame: dict[str, Any]) -> dict[str, Any]:
        """`data` is the notice's own where all required fields stand flat, else it holds the fields."""
        is_flat = all(frame.get(name) is not None for name in _needed_for(frame.get("action")))
        if is_flat or not isinstance(frame.get("data"), dict):
            return {name: value for name, value in frame.items() if value is not None and name != "type"}
        return super().fields_of(frame)

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        for name in _needed_for(self.action):
            if getattr(self, to_snake(name)) is None:
                raise missing(name)
        return self


# Events


class Notice(Shape):
    """A notice as its recipient gets it."""

    notification_id: str
    category: str
    title: str
    body: str
    priority: str
    data: dict[str, Any]
    timestamp: datetime

    @classmethod
    def of(cls, notice: Notification) -> Self:
        return cls(**cls.fields_from(notice))

    @staticmethod
    def fields_from(notice: Notification) -> dict[str, Any]:
        return {
            "notification_id": notice.notification_id,
            "category": notice.category,
            "title": notice.title,
            "body": notice.body,
            "priority": notice.priority,
            "data": notice.data,
            "timestamp": notice.sent_at,
        }


class Notified(Notice, Durable):
    """A notice for you; `category` says what it is about. Mark it with `notification`, action `markRead`."""

    type = "notification"

    @classmethod
    def rebuild(cls, subjects: Iterable[str]) -> dict[str, Durable]:
        found = Notification.objects.filter(pk__in=list(subjects))
        return {notice.pk: cls.of(notice) for notice in found}

    def subject(self) -> str:
        return self.notification_id

    def push_category(self) -> str:
        return self.category


class Announced(Notice, Event):
    """An announcement of a hospital you joined with `joinHospital`, sent once and not replayed."""

    type = "notification"
