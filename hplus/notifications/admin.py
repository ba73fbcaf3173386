"""Notices, for the hospital's admins."""

from __future__ import annotations

from django.contrib import admin

from hplus.accounts.tenancy_admin import TenancyAdmin
from hplus.notifications.models import Notification


@admin.register(Notification)
class NotificationAdmin(TenancyAdmin):
    list_display = ("sent_at", "category", "priority", "title", "recipient", "sender", "read_at")
    list_filter = ("category", "priority", ("read_at", admin.EmptyFieldListFilter))
    search_fields = ("title", "recipient__user_id", "sender__user_id")
    list_select_related = ("recipient", "sender")
    date_hierarchy = "sent_at"
