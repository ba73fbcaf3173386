"""The audit, for the hospital's admins: to look at, and for nobody to change."""

from __future__ import annotations

import json

from django.contrib import admin

from hplus.accounts.tenancy_admin import TenancyAdmin
from hplus.audit.models import Record


@admin.register(Record)
class RecordAdmin(TenancyAdmin):
    list_display = ["number", "at", "actor_id", "verb", "object_type", "object_id", "more"]
    list_filter = ["verb", ("at", admin.DateFieldListFilter)]
    search_fields = ["=actor_id", "=object_id"]
    search_help_text = "A userId or the id of what was read or changed, in full."
    fields = ["number", "at", "actor_id", "verb", "object_type", "object_id", "hospital_id", "more", "digest"]
    exported = ["number", "at", "actor_id", "verb", "object_type", "object_id", "hospital_id", "digest"]
    ordering = ["-number"]
    sortable_by: list[str] = []

    @admin.display(description="details")
    def more(self, line: Record) -> str:
        return ", ".join(f"{key}: {_plain(value)}" for key, value in line.details.items())


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
