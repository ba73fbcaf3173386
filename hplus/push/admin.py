"""Devices and pushes, for those who look why a phone stayed silent; without the token."""

from __future__ import annotations

from django.contrib import admin

from hplus.accounts.tenancy_admin import TenancyAdmin
from hplus.push.models import PushDevice, PushOutbox


@admin.register(PushDevice)
class PushDeviceAdmin(TenancyAdmin):
    list_display = ("user", "platform", "device_id", "registered_at", "disabled_at")
    list_filter = ("platform", ("disabled_at", admin.EmptyFieldListFilter))
    search_fields = ("user__user_id", "device_id")
    list_select_related = ("user",)
    exclude = ("token", "session")


@admin.register(PushOutbox)
class PushOutboxAdmin(TenancyAdmin):
    list_display = ("created_at", "category", "device", "state", "attempts", "due_at", "last_error")
    list_filter = ("state", "category")
    search_fields = ("device__user__user_id", "subject")
    list_select_related = ("device__user",)
