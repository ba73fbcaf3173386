"""Who read or changed what: an append-only table whose rows are chained by hashes."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NoReturn

from django.db import models
from django.db.models import Q
from django.utils import timezone

from hplus.protocol.wire import rfc3339
from hplus.tenancy import NO_ROW, TenancyQuerySet

GENESIS = "0" * 64  # the previous digest of the first row


class Verb(models.TextChoices):
    READ = "read"
    ADD = "add"
    CHANGE = "change"
    DELETE = "delete"
    EXPORT = "export"
    SEARCH = "search"
    LOGIN = "login"
    MOVE = "move"
    LOGIN_FAILED = "login failed"
    LOGOUT = "logout"
    LOCKOUT = "lockout"
    HOLD = "hold"
    ANONYMISE = "anonymise"


class RecordQuerySet(TenancyQuerySet["Record"]):
    def visibility(self, user: Any) -> Q:
        """Match, for an admin, the records of the own hospital."""
        if not user.is_hospital_admin or user.hospital_id is None:
            return NO_ROW
        return Q(hospital_id=user.hospital_id)

    def update(self, **_kwargs: Any) -> NoReturn:
        raise TypeError("What is in the audit stays as it is.")

    def delete(self) -> NoReturn:
        raise TypeError("What is in the audit stays as it is.")


class Record(models.Model):
    """One record. Ids are text without foreign keys, so a record outlives the rows it names."""

    number = models.PositiveBigIntegerField(primary_key=True, editable=False)
    at = models.DateTimeField(default=timezone.now, db_index=True)
    actor_id = models.CharField("actor", max_length=150, blank=True)
    verb = models.CharField(max_length=20, choices=Verb)
    object_type = models.CharField("what", max_length=100, blank=True)
    object_id = models.CharField("which", max_length=150, blank=True)
    hospital_id = models.CharField("hospital", max_length=150, blank=True)
    # Field names, counts, formats: never a patient's words or name.
    details = models.JSONField(default=dict, blank=True)
    previous = models.CharField(max_length=64)
    digest = models.CharField(max_length=64)

    objects = RecordQuerySet.as_manager()

    class Meta:
        ordering = ["-number"]
        indexes = [
            models.Index(fields=["hospital_id", "-number"], name="audit_of_hospital"),
            models.Index(fields=["actor_id", "-number"], name="audit_of_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.number}: {self.actor_id or 'HPlus'} {self.verb} {self.object_type} {self.object_id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("What is in the audit stays as it is.")
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError("What is in the audit stays as it is.")

    def seal(self) -> str:
        """Return the SHA-256 of this row's fields, among them the digest of the row before."""
        content = {
            "number": self.number,
            "at": rfc3339(self.at),
            "actor": self.actor_id,
            "verb": str(self.verb),
            "objectType": self.object_type,
            "objectId": self.object_id,
            "hospital": self.hospital_id,
            "details": self.details,
            "previous": self.previous,
        }
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


class Head(models.Model):
    """The last number and digest of the chain, which show when rows are cut off at the end."""

    head_id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    count = models.PositiveBigIntegerField(default=0)
    digest = models.CharField(max_length=64, default=GENESIS)

    def __str__(self) -> str:
        return f"{self.count}:{self.digest}"
