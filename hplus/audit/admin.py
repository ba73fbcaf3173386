"""The audit in the admin site, read only, for the hospital's admins."""

from __future__ import annotations

import json
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest

from hplus.admin_site.tenancy_admin import TenancyAdmin
from hplus.audit.models import Record


@admin.register(Record)
class RecordAdmin(TenancyAdmin):
    list_display = ["number", "at", "who", "verb", "what", "object_id", "more"]
    list_filter = ["verb", ("at", admin.DateFieldListFilter)]
    search_fields = ["=actor_id", "=object_id"]
    search_help_text = "A userId or the id of what was read or changed, in full."
    fields = ["number", "at", "who", "actor_id", "verb", "what", "object_id", "hospital_id", "more", "digest"]
    exported = ["number", "at", "actor_id", "verb", "object_type", "object_id", "hospital_id", "digest"]
    ordering = ["-number"]
    sortable_by: list[str] = []

    def get_queryset(self, request: HttpRequest) -> QuerySet[Record]:
        """Annotated with the actor's name, where that account still exists."""
        name = get_user_model().objects.filter(pk=OuterRef("actor_id")).values("name")
        rows: QuerySet[Record] = super().get_queryset(request).annotate(actor_name=Subquery(name))
        return rows

    @admin.display
    def who(self, row: Any) -> str:
        return row.actor_name or row.actor_id or "HPlus"

    @admin.display
    def what(self, row: Record) -> str:
        """The kind of row, as its own pages name it."""
        try:
            return str(apps.get_model(row.object_type)._meta.verbose_name)
        except (LookupError, ValueError):  # its app is gone, or the record is about no row
            return row.object_type

    @admin.display(description="details")
    def more(self, row: Record) -> str:
        return ", ".join(f"{key}: {_plain(value)}" for key, value in row.details.items())


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "–"
    return value if isinstance(value, str) else json.dumps(value)
