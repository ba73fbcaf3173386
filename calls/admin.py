"""Call records in the admin site, read only."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from calls.models import Call, Participant
from hplus.admin_site.tenancy_admin import ReadOnlyInline, TenancyAdmin


class ParticipantInline(ReadOnlyInline):
    """The participants of a call that the user may see."""

    model = Participant
    fk_name = "call"
    fields = ["user", "status", "invited_by", "joined_at", "left_at"]
    hide_title = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Participant]:
        rows: QuerySet[Participant] = super().get_queryset(request).select_related("user", "invited_by")
        return rows


@admin.register(Call)
class CallAdmin(TenancyAdmin):
    list_display = ["started_at", "call_type", "initiator", "others", "status", "duration"]
    list_filter = ["status", "call_type", "started_at"]
    search_fields = ["call_id", "emergency_id", "participants__user__user_id", "participants__user__name"]
    list_select_related = ["initiator"]
    exported = [
        "call_id", "call_type", "hospital", "initiator", "status", "started_at", "answered_at", "ended_at",
        "end_reason",
    ]  # fmt: skip
    fields = [
        "call_type",
        "status",
        "initiator",
        "hospital",
        "emergency_id",
        "started_at",
        "answered_at",
        "ended_at",
        "duration",
        "end_reason",
        "call_id",
    ]
    readonly_fields = ["call_id", "duration"]
    inlines = [ParticipantInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Call]:
        rows: QuerySet[Call] = super().get_queryset(request).with_people()
        return rows

    @admin.display(description="with")
    def others(self, call: Call) -> str:
        return ", ".join(str(one.user) for one in call.people if one.user_id != call.initiator_id)

    @admin.display(description="talked for")
    def duration(self, call: Call) -> str:
        return call.duration_text or "–"
