"""Notices, for the hospital's admins."""

from __future__ import annotations

from django.contrib import admin

from hplus.notifications.models import Notification
from hplus.records import RecordAdmin


@admin.register(Notification)
class NotificationAdmin(RecordAdmin):
    list_display = ("sent_at", "category", "priority", "title", "recipient", "sender", "read_at")
    list_filter = ("category", "priority", ("read_at", admin.EmptyFieldListFilter))
    search_fields = ("title", "recipient__user_id", "sender__user_id")
    list_select_related = ("recipient", "sender")
    date_hierarchy = "sent_at"
