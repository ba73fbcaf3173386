"""Positions for the hospital's admins: to be read only, and reading one is recorded."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.http import HttpRequest, HttpResponse

from hplus.accounts.tenancy_admin import TenancyAdmin
from location import actions
from location.models import Fix, Grant, Inquiry, Latest, Reading


class PositionAdmin(TenancyAdmin):
    """The list says who and when; where is on the page of one, and whoever opens it is recorded."""

    is_confidential = True
    list_filter = ["is_emergency", "is_inaccurate", "is_implausible"]
    search_fields = ["user__user_id", "user__name", "topic"]
    list_select_related = ["user"]

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        position = self.get_object(request, unquote(object_id))
        if position is not None:
            actions.record_reading(request.user, position.user_id, why="admin site")
        return super().change_view(request, object_id, *args, **kwargs)


@admin.register(Latest)
class LatestAdmin(PositionAdmin):
    list_display = ["user", "at", "received_at", "topic", "status"]


@admin.register(Fix)
class FixAdmin(PositionAdmin):
    list_display = ["user", "at", "received_at", "topic", "is_inaccurate", "is_implausible"]
    date_hierarchy = "at"


@admin.register(Grant)
class GrantAdmin(TenancyAdmin):
    list_display = ["topic", "subject", "to_user", "to_hospital", "why", "opened_at", "closed_at"]
    search_fields = ["topic", "subject__user_id"]
    list_select_related = ["subject", "to_user", "to_hospital"]


@admin.register(Inquiry)
class InquiryAdmin(TenancyAdmin):
    list_display = ["asker", "subject", "asked_at", "expires_at", "answered_at"]
    list_select_related = ["asker", "subject"]


@admin.register(Reading)
class ReadingAdmin(TenancyAdmin):
    list_display = ["at", "reader", "subject", "why", "topic"]
    search_fields = ["reader__user_id", "subject__user_id", "topic"]
    list_select_related = ["reader", "subject"]
