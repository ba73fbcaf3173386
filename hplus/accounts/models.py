"""Hospitals, users, and the sessions and tokens of their devices."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import uuid
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, Self

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from hplus.accounts import notices
from hplus.audit.actions import record
from hplus.audit.models import Verb
from hplus.protocol.texts import nfc
from hplus.tenancy import TenancyQuerySet


class Role(models.TextChoices):
    PATIENT = "patient"
    DOCTOR = "doctor"
    NURSE = "nurse"
    PARAMEDIC = "paramedic"
    ADMIN = "admin"
    RECEPTIONIST = "receptionist"
    TECHNICIAN = "technician"
    PHARMACIST = "pharmacist"


STAFF_ROLES = tuple(role for role in Role.values if role != Role.PATIENT)


class HospitalQuerySet(TenancyQuerySet["Hospital"]):
    def visibility(self, user: User) -> Q:
        """Match the user's own hospital."""
        return Q(pk=user.hospital_id)


class Hospital(models.Model):
    hospital_id = models.CharField("hospitalId", max_length=150, primary_key=True)
    name = models.CharField(max_length=200)
    is_on_diversion = models.BooleanField("on diversion", default=False)
    diversion_reason = models.CharField(max_length=500, blank=True)
    diversion_until = models.DateTimeField(null=True, blank=True)

    objects = HospitalQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        write_in_nfc(self, "hospital_id", "name")
        super().save(*args, **kwargs)


def write_in_nfc(row: models.Model, public_id: str, *texts: str) -> None:
    """Bring what is compared into one form: the texts, and the id of a new row."""
    for name in (*texts, *([public_id] if row._state.adding else [])):
        setattr(row, name, nfc(getattr(row, name)))


class UserManager(BaseUserManager["User"]):
    def create_user(self, user_id: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(user_id=user_id, **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, user_id: str, password: str | None = None, **fields: Any) -> User:
        fields = {"role": Role.ADMIN, **fields, "is_staff": True, "is_superuser": True}
        return self.create_user(user_id, password, **fields)


# What connects a patient, who belongs to no hospital, with one: paths from Hospital to the patient. They
# are text because the domains they name import this app.
#
# A patient has made each of these relations: a room that only staff opened, or a call not taken, is none.
PATIENT_PATHS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("rooms__first", {"rooms__agreed_at__isnull": False}),
    ("rooms__second", {"rooms__agreed_at__isnull": False}),
    ("emergencies__requested_by", {}),
    ("calls__initiator", {}),
    ("calls__participants__user", {"calls__participants__joined_at__isnull": False}),
)


class UserQuerySet(TenancyQuerySet["User"]):
    def staff_of(self, hospital_id: str) -> Self:
        return self.filter(hospital_id=hospital_id, role__in=STAFF_ROLES, is_active=True)

    def visibility(self, user: User) -> Q:
        """Match oneself; for an admin the hospital's people and patients it dealt with."""
        if not user.is_hospital_admin or user.hospital_id is None:
            return Q(pk=user.pk)
        is_patient_here = Q(role=Role.PATIENT) & _is_known_at(user.hospital_id)
        return Q(hospital=user.hospital_id) | is_patient_here

    def managed_by(self, user: User) -> Self:
        """Return the accounts this user may change: an admin those of the hospital's staff, a superuser any.

        Patients are left out: with a patient's password one could read the patient's chats with other
        hospitals. Superusers are left out: with theirs one could read every hospital.
        """
        if user.is_superuser:
            return self
        if not user.is_hospital_admin or user.hospital_id is None:
            return self.none()
        return self.filter(hospital=user.hospital_id, role__in=STAFF_ROLES, is_superuser=False)


def _is_known_at(hospital_id: str) -> Q:
    hospital = Hospital.objects.filter(pk=hospital_id).order_by()
    return reduce(or_, (Q(pk__in=hospital.filter(**made).values(path)) for path, made in PATIENT_PATHS))


def who_have_talked(pairs: Iterable[tuple[User, User]]) -> set[tuple[str, str]]:
    """Return the userIds of those of these patients and members of the staff who have talked.

    The patient has called at the hospital of the staff, or has taken a call there.
    """
    patients, staff = zip(*pairs, strict=True)
    path, has_joined = PATIENT_PATHS[-1]
    hospitals = Hospital.objects.order_by()
    patients_in: defaultdict[int, set[str]] = defaultdict(set)
    called = hospitals.filter(**{f"{path}__in": patients}, **has_joined).values_list("calls", path)
    for call, patient_id in called:
        patients_in[call].add(patient_id)
    met = hospitals.filter(**{f"{path}__in": staff}, calls__in=list(patients_in))
    working_at = {(one.pk, one.hospital_id) for one in staff}
    return {
        (patient_id, staff_id)
        for hospital_id, call, staff_id in met.values_list("pk", "calls", path)
        if (staff_id, hospital_id) in working_at
        for patient_id in patients_in[call]
    }


class User(AbstractBaseUser, PermissionsMixin):
    """A person with one role, and one hospital where the role is a staff role.

    `user_id` is `userId` on the wire: any UTF-8 text up to 150 characters. It is the primary key, so a
    row that points at a person holds the id that goes out, without a join.
    """

    user_id = models.CharField("userId", max_length=150, primary_key=True)
    name = models.CharField(max_length=200, blank=True)
    role = models.CharField(max_length=20, choices=Role)
    hospital = models.ForeignKey(
        Hospital, on_delete=models.PROTECT, null=True, blank=True, related_name="people"
    )
    department = models.CharField(max_length=150, blank=True)
    specialization = models.CharField(max_length=150, blank=True)
    is_active = models.BooleanField("active", default=True)
    is_staff = models.BooleanField("may enter the admin site", default=False)
    joined_at = models.DateTimeField(default=timezone.now, editable=False)
    # When all sessions were ended last; also ends older connections without a session (demo mode).
    signed_out_at = models.DateTimeField(null=True, editable=False)
    # Both are kept by the database itself (see `rights`).
    rights_version = models.IntegerField(default=0, db_default=0, editable=False)
    moved_at = models.DateTimeField(null=True, editable=False)

    objects = UserManager.from_queryset(UserQuerySet)()

    USERNAME_FIELD = "user_id"
    REQUIRED_FIELDS: list[str] = []

    class Meta:
        ordering = ["user_id"]
        constraints = [
            models.CheckConstraint(
                name="staff_belongs_to_a_hospital",
                violation_error_message="A member of staff belongs to a hospital.",
                condition=Q(role=Role.PATIENT) | Q(hospital__isnull=False) | Q(is_superuser=True),
            )
        ]

    def __str__(self) -> str:
        return self.display_name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A new password ends the sessions of the old one, whichever way it was set."""
        write_in_nfc(self, "user_id", "name", "department", "specialization")
        is_new_password = self._password is not None and not self._state.adding
        with transaction.atomic():
            super().save(*args, **kwargs)
            if is_new_password:
                self.sessions.revoke("password changed")
                record(None, Verb.CHANGE, self, what="password")
                notices.password_changed(self.pk)

    def set_password(self, raw_password: str | None) -> None:
        super().set_password(raw_password if raw_password is None else nfc(raw_password))

    def check_password(self, raw_password: str) -> bool:
        return super().check_password(nfc(raw_password))

    @property
    def display_name(self) -> str:
        return self.name or self.user_id

    def get_full_name(self) -> str:
        """The admin site shows this as the name of who is signed in."""
        return self.display_name

    @property
    def is_patient(self) -> bool:
        return self.role == Role.PATIENT

    @property
    def is_hospital_admin(self) -> bool:
        return self.role == Role.ADMIN

    def works_at(self, hospital_id: str | None) -> bool:
        """Whether this is a member of that hospital's staff."""
        return not self.is_patient and hospital_id is not None and self.hospital_id == hospital_id

    def administers(self, hospital_id: str | None) -> bool:
        """Whether this is one of that hospital's admins."""
        return self.is_hospital_admin and self.works_at(hospital_id)


class SessionQuerySet(TenancyQuerySet["Session"]):
    def visibility(self, user: User) -> Q:
        """Match the user's own sessions and those of accounts the user manages."""
        return Q(user=user) | Q(user__in=User.objects.managed_by(user))

    def revoke(self, reason: str) -> int:
        """End these sessions; open connections end at the next reconciliation. Returns how many."""
        return self.filter(revoked_at=None).update(revoked_at=timezone.now(), revoked_reason=reason)


class Session(models.Model):
    """One sign-in on one device. Its connections and its tokens end with it."""

    session_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sessions")
    device_id = models.CharField("deviceId", max_length=150, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_reason = models.CharField(max_length=100, blank=True)

    objects = SessionQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.user_id} on {self.device_id or 'an unnamed device'}"


class TokenKind(models.TextChoices):
    ACCESS = "access"
    REFRESH = "refresh"
    TICKET = "ticket"


class Token(models.Model):
    """A credential of a device: 256 random bits, of which only the SHA-256 is stored."""

    digest = models.CharField(max_length=64, primary_key=True)
    kind = models.CharField(max_length=10, choices=TokenKind)
    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="tokens")
    expires_at = models.DateTimeField(db_index=True)
    # Of a ticket or a refresh token when it was exchanged, of a renewed access token when it was shown first.
    used_at = models.DateTimeField(null=True, blank=True)
    # Of a ticket: until when what it opens is open.
    opens_until = models.DateTimeField(null=True, blank=True)
    # Of a used refresh token: with it and the token itself the pair that replaced it is made again.
    successor_salt = models.CharField(max_length=32, blank=True, db_default="", default="")

    def __str__(self) -> str:
        return f"{self.kind} token of {self.session_id}"

    @staticmethod
    def digest_of(secret: str) -> str:
        return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()

    @classmethod
    def issue(
        cls, session: Session, kind: str, lifetime_seconds: float, secret: str = "", **fields: Any
    ) -> tuple[str, datetime]:
        """Make a token. Returns the secret, which is never stored, and when it expires."""
        secret = secret or secrets.token_urlsafe(32)
        expires_at = timezone.now() + timedelta(seconds=lifetime_seconds)
        cls.objects.create(
            digest=cls.digest_of(secret), kind=kind, session=session, expires_at=expires_at, **fields
        )
        return secret, expires_at

    def successor(self, secret: str, kind: str, key: str = "") -> str:
        """Return the secret of the token of that kind which replaces this refresh token with this secret.

        It takes the server's key (SECRET_KEY, or the `key` given), this token and the salt in its row.
        """
        salted_key = (key or settings.SECRET_KEY).encode() + self.successor_salt.encode()
        digest = hmac.digest(salted_key, f"{kind} {secret}".encode("utf-8", "surrogatepass"), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def use_up(self) -> bool:
        """Mark as used. Returns False where another request used it first."""
        unused = type(self).objects.filter(pk=self.pk, used_at=None)
        return unused.update(used_at=timezone.now()) == 1


class FailedSignIns(models.Model):
    """How many attempts to sign in failed lately under one key (see `login_throttle`)."""

    key = models.CharField(max_length=64, primary_key=True)  # a hash: a userId may be a mistyped password
    level = models.FloatField(default=0)
    at = models.DateTimeField(db_index=True)  # of the last one

    def __str__(self) -> str:
        return f"{self.level:.1f} failures"
