"""Notices in the admin site."""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from hplus.admin_site.tenancy_admin import TenancyAdmin
from hplus.notifications.models import Notification


@admin.register(Notification)
class NotificationAdmin(TenancyAdmin):
    list_display = ["title", "priority", "category", "to", "by", "sent_at", "read_at"]
    list_filter = ["category", "priority", ("read_at", admin.EmptyFieldListFilter)]
    search_fields = [
        "title",
        "recipient__user_id",
        "recipient__name",
        "sender__user_id",
        "sender__name",
    ]
    list_select_related = ["recipient", "sender"]
    date_hierarchy = "sent_at"
    fields = [
        "title",
        "body",
        "priority",
        "category",
        "to",
        "by",
        "hospital",
        "sent_at",
        "read_at",
        "data",
    ]

    @admin.display(description="to", ordering="recipient")
    def to(self, notice: Notification) -> Any:
        return notice.recipient or "all who had joined"

    @admin.display(description="from", ordering="sender")
    def by(self, notice: Notification) -> Any:
        return notice.sender or "HPlus"
