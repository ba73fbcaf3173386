"""Where people are, where they were, who may see it, and who has looked."""

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

# Whose position the staff of the same hospital may see at any time.
ON_DUTY = Q(
    role=Role.PARAMEDIC,
    is_active=True,
    presence__status__in=[PresenceStatus.AVAILABLE, PresenceStatus.BUSY, PresenceStatus.AWAY],
)


class GrantQuerySet(models.QuerySet["Grant"]):
    def open(self) -> Self:
        return self.filter(closed_at=None)

    def closed(self) -> Self:
        return self.filter(closed_at__isnull=False)

    def shown_to(self, user: User) -> Self:
        """Those that let this user see somebody."""
        return self.filter(_shows(user))

    def visible_to(self, user: User) -> Self:
        """What a user may read of the grants themselves: those about, and those for, this user."""
        return self if user.is_superuser else self.filter(_shows(user) | Q(subject=user))


def _shows(user: User) -> Q:
    personal = Q(to_user=user)
    return personal if user.is_patient or not user.hospital_id else personal | Q(to_hospital=user.hospital_id)


class Grant(models.Model):
    """Somebody, or all staff of a hospital, may see where the subject is, until the reason has ended.

    `reason_id` is the public id of the reason (an emergency); location does not know what it is.
    """

    reason_id = models.CharField(max_length=36)
    subject = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+", db_index=False)
    to_user = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    to_hospital = models.ForeignKey(
        Hospital, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    why = models.CharField(max_length=200)
    # Where the subject is expected, in degrees; distance and time to it are told along.
    destination_lat = models.FloatField(null=True, blank=True)
    destination_lng = models.FloatField(null=True, blank=True)
    opened_at = models.DateTimeField(default=timezone.now, editable=False)
    closed_at = models.DateTimeField(null=True, blank=True)
    close_reason = models.CharField(max_length=200, blank=True)
    # When the subject's phone, which goes on sending, was told that nobody listens any more.
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


def seen_by(user: User) -> models.QuerySet[User]:
    """The people whose position this user may see now. Every right to see a position comes from here.

    Oneself, the subjects of open grants, and the paramedics on duty in the own hospital.
    """
    if user.is_superuser:
        return User.objects.all()
    granted = Grant.objects.open().shown_to(user).filter(subject=OuterRef("pk"))
    allowed = Q(pk=user.pk) | Exists(granted)
    if not user.is_patient and user.hospital_id is not None:
        allowed |= ON_DUTY & Q(hospital=user.hospital_id)
    return User.objects.filter(allowed)


def is_stale(at: datetime, now: datetime) -> bool:
    """Whether a position of that time is too old to be taken for the place where somebody is."""
    return now - at > timedelta(seconds=settings.LOCATION_STALE_SECONDS)


class Position(models.Model):
    """One fix as the phone measured it, in degrees (WGS 84), metres, metres per second."""

    lat = models.FloatField()
    lng = models.FloatField()
    accuracy_m = models.FloatField(null=True, blank=True)
    speed_mps = models.FloatField(null=True, blank=True)
    heading_degrees = models.FloatField(null=True, blank=True)
    # When it was measured: the phone's word where that has a zone and is not in the future, else the
    # arrival.
    at = models.DateTimeField()
    received_at = models.DateTimeField()
    said_at = models.CharField("timestamp as sent", max_length=64, blank=True)
    # The hospital whose paramedic this was then; a later employer has no business with it.
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


class FixQuerySet(models.QuerySet["Fix"]):
    def visible_to(self, user: User) -> Self:
        """The own track, that of an open matter, and where paramedics on duty went between matters."""
        if user.is_superuser:
            return self
        granted = Grant.objects.open().shown_to(user)
        granted = granted.filter(reason_id=OuterRef("reason_id"), subject=OuterRef("user"))
        allowed = Q(user=user) | Exists(granted)
        if not user.is_patient and user.hospital_id is not None:
            on_duty = User.objects.filter(ON_DUTY, hospital=user.hospital_id)
            allowed |= Q(reason_id="", hospital=user.hospital_id, user__in=on_duty)
        return self.filter(allowed)


class Fix(Position):
    """A step of a track."""

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


class LatestQuerySet(models.QuerySet["Latest"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(user__in=seen_by(user))

    def fresh(self, now: datetime) -> Self:
        return self.filter(at__gte=now - timedelta(seconds=settings.LOCATION_STALE_SECONDS))


class Latest(Position):
    """Where somebody is, as far as anybody knows."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, primary_key=True, related_name="+")

    objects = LatestQuerySet.as_manager()

    class Meta:
        ordering = ["user"]
        verbose_name = "latest position"

    def __str__(self) -> str:
        return f"{self.user_id} at {self.at:%Y-%m-%d %H:%M:%S}"


class InquiryQuerySet(models.QuerySet["Inquiry"]):
    def pending(self, now: datetime) -> Self:
        return self.filter(answered_at=None, expires_at__gt=now)

    def visible_to(self, user: User) -> Self:
        """For who asked and who was asked, and for the admins of the asker's hospital."""
        if user.is_superuser:
            return self
        allowed = Q(asker=user) | Q(subject=user)
        if user.is_hospital_admin:
            allowed |= Q(asker__hospital=user.hospital_id)
        return self.filter(allowed)


class Inquiry(models.Model):
    """Somebody has asked where the subject is; the next fix goes to the asker."""

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


class PositionAccessQuerySet(models.QuerySet["PositionAccess"]):
    def visible_to(self, user: User) -> Self:
        """Who has read whose position: for the subject, and for the admins of the reader's hospital."""
        if user.is_superuser:
            return self
        allowed = Q(subject=user)
        if user.is_hospital_admin:
            allowed |= Q(reader__hospital=user.hospital_id)
        return self.filter(allowed)

    def update(self, **_kwargs: Any) -> NoReturn:
        raise TypeError("What has been read stays recorded.")

    def delete(self) -> NoReturn:
        raise TypeError("What has been read stays recorded.")


class PositionAccess(models.Model):
    """Somebody has read where somebody was: who, whom, why. Only ever added to."""

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
            raise TypeError("What has been read stays recorded.")
        super().save(*args, **kwargs)

    def delete(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError("What has been read stays recorded.")
