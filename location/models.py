"""Positions and tracks of people, the grants to see them, requests for one, and who has read which."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NoReturn, Self

from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from hplus.accounts.models import Hospital, Role, User
from hplus.protocol.wire import new_id
from hplus.realtime.models import PresenceStatus
from hplus.tenancy import TenancyQuerySet
from location.geo import is_nowhere

# Paramedics on duty: the staff of their hospital may see their position at any time.
ON_DUTY = Q(
    role=Role.PARAMEDIC,
    is_active=True,
    presence__status__in=[PresenceStatus.AVAILABLE, PresenceStatus.BUSY, PresenceStatus.AWAY],
)


class GrantQuerySet(TenancyQuerySet["Grant"]):
    def open(self) -> Self:
        return self.filter(closed_at=None)

    def closed(self) -> Self:
        return self.filter(closed_at__isnull=False)

    def granted_to(self, user: User) -> Self:
        """Return the grants by which this user may see the subject's position."""
        return self.filter(_granted_to(user))

    def visibility(self, user: User) -> Q:
        """Match the grants whose row a user may read: those to and those about the user."""
        return _granted_to(user) | Q(subject=user)


def _granted_to(user: User) -> Q:
    personal = Q(to_user=user)
    return personal if user.is_patient or not user.hospital_id else personal | Q(to_hospital=user.hospital_id)


class Grant(models.Model):
    """A user, or all staff of a hospital, may see the subject's position until the grant is closed.

    `reason_id` is the public id of what the grant is for: an emergency, of which this app knows no more.
    """

    reason_id = models.CharField(max_length=36)
    subject = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+", db_index=False)
    to_user = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    to_hospital = models.ForeignKey(
        Hospital, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    why = models.CharField(max_length=200)
    # Where the subject is expected, in degrees; updates contain the distance and the time to it.
    destination_lat = models.FloatField(null=True, blank=True)
    destination_lng = models.FloatField(null=True, blank=True)
    opened_at = models.DateTimeField(default=timezone.now, editable=False)
    closed_at = models.DateTimeField(null=True, blank=True)
    close_reason = models.CharField(max_length=200, blank=True)
    # When `locationSharingStopped` went to the subject's phone, which still sends after the end.
    told_at = models.DateTimeField(null=True, blank=True)

    objects = GrantQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["subject", "closed_at"], name="grant_by_subject"),
            models.Index(fields=["reason_id"], name="grant_by_reason"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["reason_id", "subject", "to_user"],
                condition=Q(closed_at=None, to_user__isnull=False),
                name="granted_once_to_a_person",
            ),
            models.UniqueConstraint(
                fields=["reason_id", "subject", "to_hospital"],
                condition=Q(closed_at=None, to_hospital__isnull=False),
                name="granted_once_to_a_hospital",
            ),
            models.CheckConstraint(
                condition=Q(to_user=None, to_hospital__isnull=False)
                | Q(to_user__isnull=False, to_hospital=None),
                name="granted_to_a_person_or_a_hospital",
            ),
            models.CheckConstraint(
                condition=Q(destination_lat=None, destination_lng=None)
                | Q(destination_lat__isnull=False, destination_lng__isnull=False),
                name="a_destination_has_two_coordinates",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.to_user_id or self.to_hospital_id} may see {self.subject_id}: {self.why}"

    @property
    def destination(self) -> tuple[float, float] | None:
        if self.destination_lat is None or self.destination_lng is None:
            return None
        return self.destination_lat, self.destination_lng


def locatable_by(user: User) -> models.QuerySet[User]:
    """Return the users whose position this user may see now; the only place that decides it.

    They are the user, the subjects of open grants, and for staff the paramedics on duty in their hospital;
    for a superuser everybody.
    """
    if user.is_superuser:
        return User.objects.all()
    granted = Grant.objects.open().granted_to(user).filter(subject=OuterRef("pk"))
    allowed = Q(pk=user.pk) | Exists(granted)
    if not user.is_patient and user.hospital_id is not None:
        allowed |= ON_DUTY & Q(hospital=user.hospital_id)
    return User.objects.filter(allowed)


def is_stale(at: datetime, now: datetime) -> bool:
    """Whether a position measured then is too old to count as the user's present one."""
    return now - at > timedelta(seconds=settings.LOCATION_STALE_SECONDS)


class Position(models.Model):
    """One fix as the phone measured it, in degrees (WGS 84), metres and metres per second."""

    lat = models.FloatField()
    lng = models.FloatField()
    accuracy_m = models.FloatField(null=True, blank=True)
    speed_mps = models.FloatField(null=True, blank=True)
    heading_degrees = models.FloatField(null=True, blank=True)
    # When it was measured: the phone's time if that has a zone and is not in the future, else the arrival.
    at = models.DateTimeField()
    received_at = models.DateTimeField()
    said_at = models.CharField("timestamp as sent", max_length=64, blank=True)
    # The hospital whose paramedic on duty this was then; a later employer may not see the fix.
    hospital = models.ForeignKey(
        Hospital, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    reason_id = models.CharField(max_length=36, blank=True)
    is_emergency = models.BooleanField(default=False)
    status = models.CharField(max_length=50, blank=True)
    is_inaccurate = models.BooleanField(default=False)
    is_implausible = models.BooleanField(default=False)

    class Meta:
        abstract = True

    def is_stale(self, now: datetime) -> bool:
        return is_stale(self.at, now)

    @property
    def is_known(self) -> bool:
        """Whether the phone knew where it was: not at 0/0, nor with a negative accuracy."""
        return (self.accuracy_m is None or self.accuracy_m >= 0) and not is_nowhere(self.lat, self.lng)


class FixQuerySet(TenancyQuerySet["Fix"]):
    def visibility(self, user: User) -> Q:
        """Match the own fixes, those of open grants, and those of paramedics on duty outside emergencies."""
        granted = Grant.objects.open().granted_to(user)
        granted = granted.filter(reason_id=OuterRef("reason_id"), subject=OuterRef("user"))
        allowed = Q(user=user) | Exists(granted)
        if not user.is_patient and user.hospital_id is not None:
            on_duty = User.objects.filter(ON_DUTY, hospital=user.hospital_id)
            allowed |= Q(reason_id="", hospital=user.hospital_id, user__in=on_duty)
        return allowed


class Fix(Position):
    """One fix of a track."""

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+", db_index=False)

    objects = FixQuerySet.as_manager()

    class Meta:
        ordering = ["at", "id"]
        verbose_name_plural = "fixes"
        indexes = [
            models.Index(fields=["user", "at"], name="fix_by_user"),
            models.Index(fields=["reason_id", "at"], name="fix_by_reason", condition=~Q(reason_id="")),
            models.Index(fields=["received_at"], name="fix_without_reason", condition=Q(reason_id="")),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} at {self.at:%Y-%m-%d %H:%M:%S}"


class LatestQuerySet(TenancyQuerySet["Latest"]):
    def visibility(self, user: User) -> Q:
        """Match the positions of those the user may locate now."""
        return Q(user__in=locatable_by(user))

    def fresh(self, now: datetime) -> Self:
        return self.filter(at__gte=now - timedelta(seconds=settings.LOCATION_STALE_SECONDS))


class Latest(Position):
    """The last known position of a user."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, primary_key=True, related_name="+")

    objects = LatestQuerySet.as_manager()

    class Meta:
        ordering = ["user"]
        verbose_name = "latest position"

    def __str__(self) -> str:
        return f"{self.user_id} at {self.at:%Y-%m-%d %H:%M:%S}"


class InquiryQuerySet(TenancyQuerySet["Inquiry"]):
    def pending(self, now: datetime) -> Self:
        return self.filter(answered_at=None, expires_at__gt=now)

    def visibility(self, user: User) -> Q:
        """Match the requests by and about the user; for an admin also those by staff of the hospital."""
        own = Q(asker=user) | Q(subject=user)
        return own | Q(asker__hospital=user.hospital_id) if user.is_hospital_admin else own


class Inquiry(models.Model):
    """A request for the subject's position; the subject's next fix answers it."""

    inquiry_id = models.CharField("requestId", max_length=36, primary_key=True, default=new_id)
    asker = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    subject = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+", db_index=False)
    request_id = models.CharField("requestId as sent", max_length=150)
    reason_id = models.CharField(max_length=36, blank=True)
    asked_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True, blank=True)

    objects = InquiryQuerySet.as_manager()

    class Meta:
        ordering = ["asked_at"]
        verbose_name_plural = "inquiries"
        indexes = [
            models.Index(fields=["subject"], name="inquiry_pending", condition=Q(answered_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.asker_id} asks for {self.subject_id}"


class PositionAccessQuerySet(TenancyQuerySet["PositionAccess"]):
    def visibility(self, user: User) -> Q:
        """Match the reads of the user's own position; for an admin also those by staff of the hospital."""
        own = Q(subject=user)
        return own | Q(reader__hospital=user.hospital_id) if user.is_hospital_admin else own

    def update(self, **_kwargs: Any) -> NoReturn:
        raise TypeError("A recorded access cannot be changed.")

    def delete(self) -> NoReturn:
        raise TypeError("A recorded access cannot be changed.")


class PositionAccess(models.Model):
    """A record that a user has read the position of another, and why. Rows are only added."""

    reader = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    subject = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    why = models.CharField(max_length=200)
    reason_id = models.CharField(max_length=36, blank=True)
    at = models.DateTimeField(default=timezone.now, editable=False)

    objects = PositionAccessQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.reader_id} read where {self.subject_id} was, {self.at:%Y-%m-%d %H:%M}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk is not None:
            raise TypeError("A recorded access cannot be changed.")
        super().save(*args, **kwargs)

    def delete(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError("A recorded access cannot be changed.")


# Of those who connect, the ones whose position is shared or asked for: SQL on `newcomer`, see DomainConsumer.
# Some of the inquiries may have expired just now.
IS_SHARED_OR_ASKED_FOR = """
SELECT newcomer.user_id FROM newcomer
WHERE (
    SELECT true FROM location_grant access
    WHERE access.subject_id = newcomer.user_id AND access.closed_at IS NULL LIMIT 1)
  OR (
    SELECT true FROM location_inquiry inquiry
    WHERE inquiry.subject_id = newcomer.user_id AND inquiry.answered_at IS NULL
      AND inquiry.expires_at > now() - interval '1 minute' LIMIT 1)
"""
