"""Notices to people, with their read state."""

from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models import Q
from django.utils import timezone

from hplus.accounts.models import Hospital, User
from hplus.protocol.wire import new_id
from hplus.tenancy import TenancyQuerySet, since_move_of


class Priority(models.TextChoices):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


class NotificationQuerySet(TenancyQuerySet["Notification"]):
    def of(self, user: User) -> Self:
        """Return the notices sent to this user where they are now."""
        return self.filter(_is_own(user))

    def unread_by(self, user: User) -> Self:
        return self.of(user).filter(read_at=None)

    def visibility(self, user: User) -> Q:
        """Match the user's own notices; for an admin also those of the hospital."""
        own = _is_own(user)
        return own | Q(hospital=user.hospital_id) if user.is_hospital_admin else own


def _is_own(user: User) -> Q:
    return Q(recipient=user) & since_move_of(user, "sent_at")


class Notification(models.Model):
    """One notice for one person; without a recipient, an announcement to the patients who had joined."""

    notification_id = models.CharField(
        "notificationId", max_length=36, primary_key=True, default=new_id, editable=False
    )
    recipient = models.ForeignKey(
        User, on_delete=models.CASCADE, null=True, blank=True, related_name="notifications", db_index=False
    )
    # Null where HPlus itself sent it.
    sender = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    # Whose admins may see it: the sender's hospital, else the recipient's at that time.
    hospital = models.ForeignKey(
        Hospital, on_delete=models.PROTECT, null=True, blank=True, related_name="notifications"
    )
    category = models.CharField(max_length=50)
    title = models.CharField(max_length=200)
    body = models.TextField(blank=True)
    priority = models.CharField(max_length=10, choices=Priority, default=Priority.NORMAL)
    data = models.JSONField(default=dict, blank=True)
    sent_at = models.DateTimeField(default=timezone.now, db_index=True)
    read_at = models.DateTimeField(null=True, blank=True)

    objects = NotificationQuerySet.as_manager()

    class Meta:
        ordering = ["-notification_id"]
        indexes = [
            models.Index(fields=["recipient", "notification_id"], name="notice_of_recipient"),
            models.Index(fields=["recipient"], name="notice_unread", condition=Q(read_at=None)),
            models.Index(fields=["read_at"], name="notice_by_read_at"),
        ]

    def __str__(self) -> str:
        return (
            f"{self.category} for {self.recipient_id or 'all who had joined'}, {self.sent_at:%Y-%m-%d %H:%M}"
        )
