"""Call records for the admins of a hospital: to look at, never to change."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from calls.models import Call, Participant


class ReadOnly:
    """Call records are what happened; nobody edits that. Which ones: `visible_to`."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        user = request.user
        return user.is_active and (user.is_superuser or getattr(user, "is_hospital_admin", False))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ParticipantInline(ReadOnly, admin.TabularInline):
    model = Participant
    fk_name = "call"
    fields = ("user", "status", "invited_by", "joined_at", "left_at")
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Participant]:
        return super().get_queryset(request).select_related("user", "invited_by")


@admin.register(Call)
class CallAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("started_at", "call_type", "initiator", "participants_shown", "status", "duration_shown")
    list_filter = ("status", "call_type", "started_at")
    search_fields = ("call_id", "emergency_id", "initiator__name", "participants__user__name")
    fields = (
        "call_id",
        "call_type",
        "initiator",
        "hospital",
        "emergency_id",
        "status",
        "end_reason",
        "started_at",
        "answered_at",
        "ended_at",
        "duration_shown",
    )
    inlines = (ParticipantInline,)
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Call]:
        visible = Call.objects.visible_to(request.user)
        return visible.select_related("initiator", "hospital").with_people()

    @admin.display(description="with")
    def participants_shown(self, call: Call) -> str:
        return ", ".join(str(one.user) for one in call.people if one.user_id != call.initiator_id)

    @admin.display(description="duration")
    def duration_shown(self, call: Call) -> str:
        seconds = call.duration_seconds
        return "–" if seconds is None else f"{seconds // 60}:{seconds % 60:02}"
