"""Tenancy: which rows a user may see, and loading one of them by an id that a client sent."""

from __future__ import annotations

from typing import Any, Generic, Self, TypeVar

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from hplus import errors
from hplus.protocol import wire
from hplus.protocol.texts import nfc

Row = TypeVar("Row", bound=models.Model)
NO_ROW = Q(pk__in=())


def since_move_of(user: Any, field: str) -> Q:
    """Match rows that were written, by this field, since the user has had the role and hospital of today."""
    return Q(**{f"{field}__gte": user.moved_at}) if user.moved_at else Q()


class TenancyQuerySet(models.QuerySet, Generic[Row]):
    """The rows of hospitals and people; a subclass names in `visibility` who may see which.

    Loading is authorising: what another hospital has is answered like what does not exist.
    """

    # The field that holds the id on the wire.
    public_id = "pk"

    def visible_to(self, user: Any) -> Self:
        """Return the rows this user may see: all for a superuser, for others those of `visibility`."""
        return self if user.is_superuser else self.filter(self.visibility(user))

    def visibility(self, user: Any) -> Q:
        """Return the condition for rows that this user, no superuser, may see."""
        raise NotImplementedError(type(self).__name__)

    def with_id(self, value: Any) -> Self:
        """Return the row with this public id, or none; none also for an id that no row can have.

        Texts are compared in NFC.
        """
        if not self.is_possible_id(value):
            return self.none()
        return self.filter(**{self.public_id: nfc(value) if isinstance(value, str) else value})

    def find(self, value: Any, refusal: errors.Refusal) -> Row:
        """Return the row with this public id. Raises the refusal where it is none of these rows."""
        row: Row | None = self.with_id(value).first()
        if row is None:
            raise refusal
        return row

    def is_possible_id(self, value: Any) -> bool:
        """Whether the value can be an id: of the field's type, and text that the database can store."""
        meta = self.model._meta
        field = meta.pk if self.public_id == "pk" else meta.get_field(self.public_id)
        try:
            field.to_python(value)
        except ValidationError:
            return False
        return wire.is_storable(str(value))
