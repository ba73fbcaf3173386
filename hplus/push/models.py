"""Push devices and the outbox of pushes to them: ids and a category, never a name or a text."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Q
from django.utils import timezone

from hplus.accounts.models import Session, User
from hplus.tenancy import TenancyQuerySet


class PushDeviceQuerySet(TenancyQuerySet["PushDevice"]):
    def reachable(self) -> Self:
        """Return devices that still get pushes: not disabled, not revoked, session and user active."""
        return self.filter(disabled_at=None, revoked_at=None, session__revoked_at=None, user__is_active=True)

    def revoke(self) -> int:
        """Send nothing to these until their users sign in on them again. Returns how many."""
        return self.filter(revoked_at=None).update(token="", revoked_at=timezone.now())

    def visibility(self, user: User) -> Q:
        """Match the user's own devices; for an admin those of the hospital's people."""
        own = Q(user=user)
        return own | Q(user__hospital=user.hospital_id) if user.is_hospital_admin else own


class PushDevice(models.Model):
    """A phone or browser, as the push service knows it. It belongs to the session that registered it."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="push_devices")
    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="push_devices")
    device_id = models.CharField("deviceId", max_length=150, blank=True)
    platform = models.CharField(max_length=20, blank=True)
    token = models.TextField(blank=True)  # emptied when the device is disabled or revoked
    token_digest = models.CharField(max_length=64, unique=True, editable=False)
    registered_at = models.DateTimeField(default=timezone.now)
    # When the push service answered that it no longer knows this token.
    disabled_at = models.DateTimeField(null=True, blank=True)
    # When an administrator revoked it, although its session goes on.
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = PushDeviceQuerySet.as_manager()

    class Meta:
        ordering = ["-registered_at"]
        verbose_name = "phone"
        indexes = [models.Index(fields=["user", "device_id"], name="push_device_of_user")]

    def __str__(self) -> str:
        return f"{self.platform or 'device'} {self.device_id} of {self.user_id}"

    @staticmethod
    def digest_of(token: str) -> str:
        return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def is_reachable(self) -> bool:
        """Like `PushDeviceQuerySet.reachable`, for a row whose session and user are loaded."""
        return self.why_silent == ""

    @property
    def why_silent(self) -> str:
        """Why it gets no pushes; blank where it does."""
        if self.revoked_at:
            return "revoked"
        if self.disabled_at:
            return "unknown to the push service"
        if self.session.revoked_at or not self.user.is_active:
            return "signed out"
        return ""

    def disable(self) -> None:
        """Record that the push service no longer knows this token."""
        self.token, self.disabled_at = "", timezone.now()
        self.save(update_fields=["token", "disabled_at"])


def may_have_device(user_id: str) -> str:
    """Return an SQL condition on a user, itself SQL; `PushDeviceQuerySet.reachable` judges exactly."""
    return (
        f"EXISTS (SELECT FROM push_pushdevice device WHERE device.user_id = {user_id}"
        " AND device.disabled_at IS NULL AND device.revoked_at IS NULL)"
    )


class State(models.TextChoices):
    WAITING = "waiting"
    SENT = "sent"
    GIVEN_UP = "given up"


class PushOutboxQuerySet(TenancyQuerySet["PushOutbox"]):
    def due(self, now: datetime) -> Self:
        return self.filter(state=State.WAITING, due_at__lte=now).order_by("due_at", "pk")

    def visibility(self, user: User) -> Q:
        """Match the pushes to devices the user may see."""
        return Q(device__in=PushDevice.objects.visible_to(user))


class PushOutbox(models.Model):
    """One push to one device, written in the transaction of its event."""

    device = models.ForeignKey(PushDevice, on_delete=models.CASCADE, related_name="pushes", db_index=False)
    category = models.CharField(max_length=50)
    subject = models.CharField("id of what it is about", max_length=40)
    event_id = models.UUIDField("eventId")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    created_at = models.DateTimeField(default=timezone.now)
    # When to try next; during an attempt, when another worker may take over.
    due_at = models.DateTimeField(default=timezone.now)
    attempts = models.PositiveSmallIntegerField(default=0)
    last_error = models.CharField(max_length=200, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True, db_index=True)

    objects = PushOutboxQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        verbose_name = verbose_name_plural = "push outbox"
        constraints = [
            models.UniqueConstraint(fields=["device", "event_id"], name="pushed_once_a_device"),
        ]
        indexes = [
            models.Index(fields=["due_at"], name="push_due", condition=Q(state=State.WAITING)),
        ]

    def __str__(self) -> str:
        return f"{self.category} to device {self.device_id}, {self.state}"

    def content(self) -> dict[str, str]:
        """Return all that the push service gets. The app asks HPlus for the rest."""
        return {"category": self.category, "id": self.subject, "eventId": str(self.event_id)}
