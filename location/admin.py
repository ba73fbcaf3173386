"""Positions in the admin site, read only; each access to one is recorded."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.http import HttpRequest, HttpResponse

from hplus.admin_site.tenancy_admin import TenancyAdmin
from location import actions
from location.models import Fix, Grant, Inquiry, Latest, Position, PositionAccess


class PositionAdmin(TenancyAdmin):
    """The list shows who and when; the place is on the page of one position, and opening it is recorded."""

    is_confidential = True
    list_filter = ["is_emergency", "is_inaccurate", "is_implausible"]
    search_fields = ["user__user_id", "user__name", "reason_id"]
    list_select_related = ["user"]
    fields = [
        "user", "lat", "lng", "accuracy_m", "speed_mps", "heading_degrees", "at", "received_at", "said_at",
        "doubts", "is_emergency", "reason_id", "status", "hospital",
    ]  # fmt: skip

    @admin.display
    def doubts(self, position: Position) -> str:
        """What makes the position doubtful."""
        flags = {"inaccurate": position.is_inaccurate, "implausible": position.is_implausible}
        return ", ".join(flag for flag, is_set in flags.items() if is_set) or "–"

    @admin.display
    def why(self, position: Position) -> str:
        """Why the hospital may see it."""
        return "emergency" if position.is_emergency or position.reason_id else "on duty"

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        position = self.get_object(request, unquote(object_id))
        if position is not None:
            actions.record_access(request.user, position.user_id, why="admin site")
        return super().change_view(request, object_id, *args, **kwargs)


@admin.register(Latest)
class LatestAdmin(PositionAdmin):
    list_display = ["user", "why", "status", "at", "received_at", "doubts"]


@admin.register(Fix)
class FixAdmin(PositionAdmin):
    list_display = ["user", "why", "at", "received_at", "doubts"]
    date_hierarchy = "at"


@admin.register(Grant)
class GrantAdmin(TenancyAdmin):
    list_display = ["subject", "to", "why", "opened_at", "closed_at"]
    search_fields = ["reason_id", "subject__user_id", "subject__name"]
    list_select_related = ["subject", "to_user", "to_hospital"]

    @admin.display(description="may be seen by")
    def to(self, grant: Grant) -> Any:
        return grant.to_user or grant.to_hospital


@admin.register(Inquiry)
class InquiryAdmin(TenancyAdmin):
    list_display = ["asker", "subject", "asked_at", "expires_at", "answered_at"]
    list_select_related = ["asker", "subject"]


@admin.register(PositionAccess)
class PositionAccessAdmin(TenancyAdmin):
    list_display = ["reader", "subject", "why", "at"]
    search_fields = ["reader__user_id", "reader__name", "subject__user_id", "subject__name", "reason_id"]
    list_select_related = ["reader", "subject"]
