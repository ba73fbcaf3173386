"""Push devices and the push outbox in the admin site, to see why a phone stayed silent; without tokens."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from hplus.admin_site.tenancy_admin import TenancyAdmin, may_administer
from hplus.push.models import PushDevice, PushOutbox


@admin.register(PushDevice)
class PushDeviceAdmin(TenancyAdmin):
    """Push devices. Revoking one silences it; its session goes on."""

    list_display = ["user", "platform", "device_id", "state", "registered_at"]
    list_filter = [
        "platform",
        ("revoked_at", admin.EmptyFieldListFilter),
        ("disabled_at", admin.EmptyFieldListFilter),
    ]
    search_fields = ["user__user_id", "user__name", "device_id"]
    list_select_related = ["user", "session"]
    fields = ["user", "platform", "device_id", "state", "registered_at", "disabled_at", "revoked_at"]
    actions = ["revoke"]

    def get_buttons(self, request: HttpRequest, row: PushDevice) -> tuple[str, ...]:
        return () if row.revoked_at else ("revoke",)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return may_administer(request.user)

    @admin.display
    def state(self, device: PushDevice) -> str:
        return device.why_silent or "reachable"

    @admin.action(description="Revoke: no more pushes to it", permissions=["revoke"])
    def revoke(self, request: HttpRequest, ticked: QuerySet[PushDevice]) -> None:
        chosen = [device for device in ticked if device.revoked_at is None]
        PushDevice.objects.filter(pk__in=[device.pk for device in chosen]).revoke()
        self.report(request, chosen, len(ticked), "revoked")


@admin.register(PushOutbox)
class PushOutboxAdmin(TenancyAdmin):
    list_display = ["created_at", "category", "to", "state", "attempts", "due_at", "last_error"]
    list_filter = ["state", "category"]
    search_fields = ["device__user__user_id", "device__user__name", "subject"]
    list_select_related = ["device__user"]

    @admin.display(description="to", ordering="device__user")
    def to(self, push: PushOutbox) -> Any:
        return push.device.user
