"""Idempotency: requests of one user with the same clientMessageId make one thing.

The row that the first of them made keeps its clientMessageId and a digest of its content. A repetition gets
the result of that row again (`status: duplicate`); another content under the same id is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db import models
from django.db.models import Q

from hplus import errors
from hplus.accounts.models import User
from hplus.protocol import wire

Key = tuple[str, str]  # userId and clientMessageId
_NOT_CONTENT = {"request_id", "client_message_id", "client_timestamp"}


class IdempotentRow(models.Model):
    """A row made by a request that a client may repeat."""

    client_message_id = models.CharField(max_length=64, null=True, blank=True)  # noqa: DJ001 unique where given
    fingerprint = models.CharField(max_length=64, blank=True)

    class Meta:
        abstract = True


Row = TypeVar("Row", bound=IdempotentRow)


def one_row_per_key(requester: str, name: str) -> models.UniqueConstraint:
    """Return the constraint by which two servers store a repeated request once."""
    is_given = Q(client_message_id__isnull=False)
    return models.UniqueConstraint(fields=[requester, "client_message_id"], condition=is_given, name=name)


def content_of(request: wire.Request) -> dict[str, Any]:
    """Return the fields in which a repetition equals the first request."""
    return request.model_dump(exclude=_NOT_CONTENT)


@dataclass(frozen=True)
class Idempotency(Generic[Row]):
    """How one kind of request is recognized again.

    `requester` names the foreign key of `model` to the user who sent the request.
    """

    model: type[Row]
    requester: str
    content: Callable[[Any], dict[str, Any]] = content_of

    def fingerprint(self, request: wire.Request) -> str:
        """Return a digest of the request's content; blank without a clientMessageId."""
        if not request.client_message_id:
            return ""
        return hashlib.sha256(wire.canonical(self.content(request))).hexdigest()

    def first_row(self, user: User, request: wire.Request) -> Row | None:
        """Return the row the same request made before; None for a new one. Raises IdempotencyConflict."""
        if not request.client_message_id:
            return None
        key = (user.pk, request.client_message_id)
        row = self.rows_by_key([key]).get(key)
        if row and (conflict := self.conflict(row, self.fingerprint(request))):
            raise conflict
        return row

    def rows_by_key(self, keys: Iterable[Key]) -> dict[Key, Row]:
        """Return the stored rows of these keys, in one query."""
        keys = set(keys)
        if not keys:
            return {}
        by_requester = {f"{self.requester}__in": {user_id for user_id, _ in keys}}
        found = self.model._default_manager.filter(
            client_message_id__in={client_id for _, client_id in keys}, **by_requester
        )
        return {(getattr(row, f"{self.requester}_id"), row.client_message_id or ""): row for row in found}

    def conflict(self, row: Row, fingerprint: str) -> errors.IdempotencyConflict | None:
        """Return the refusal for a request whose clientMessageId was used for another content."""
        if row.fingerprint == fingerprint:
            return None
        return errors.IdempotencyConflict(field="clientMessageId")
