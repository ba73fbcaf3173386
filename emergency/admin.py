"""Emergencies for staff: to read, not to change; what is to be done is done through the actions."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join

from emergency import response_times
from emergency.models import Alert, Emergency, Entry, HospitalPolicy


def _may_enter(request: HttpRequest) -> bool:
    user = request.user
    return user.is_authenticated and user.is_active and (user.is_superuser or user.is_hospital_admin)


class ReadOnly:
    """To look at, for the admins of the hospital."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _may_enter(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may_enter(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class EntryInline(ReadOnly, admin.TabularInline):
    model = Entry
    fields = ("at", "kind", "by", "by_role", "data")
    extra = 0


class AlertInline(ReadOnly, admin.TabularInline):
    model = Alert
    fields = ("user", "reply", "replied_at")
    extra = 0


@admin.register(Emergency)
class EmergencyAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "requested_at", "priority", "status", "phase", "condition", "patient_name", "assigned_to",
        "escalation_level",
    )  # fmt: skip
    list_filter = ("status", "priority", "phase")
    search_fields = ("emergency_id", "patient_id", "patient_name", "condition")
    list_select_related = ("assigned_to",)
    date_hierarchy = "requested_at"
    inlines = (EntryInline, AlertInline)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Emergency]:
        return super().get_queryset(request).visible_to(request.user)


@admin.register(HospitalPolicy)
class HospitalPolicyAdmin(ReadOnly, admin.ModelAdmin):
    """Whom a hospital calls, how long it waits, and what it aims at; its admins may change it."""

    list_display = ("hospital", "alert_roles", "escalation_seconds", "targets")
    readonly_fields = ("response_times",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[HospitalPolicy]:
        return super().get_queryset(request).visible_to(request.user)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may_enter(request)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("hospital", "response_times") if obj else ("response_times",)

    @admin.display(description="seconds from the call, last 30 days")
    def response_times(self, policy: HospitalPolicy) -> str:
        """Each step at the 50th, 90th and 99th percentile, and how many kept the target."""
        steps = response_times.of_hospital(policy.hospital_id, days=30).steps
        return format_html_join(
            "",
            "<p>{}: {} / {} / {} ({} in {} s)</p>",
            (
                (name, found.p50, found.p90, found.p99, found.within_target, found.target_seconds)
                for name, found in steps.items()
            ),
        )
