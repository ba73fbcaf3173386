"""Open connections in the admin site."""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from hplus.admin_site.tenancy_admin import TenancyAdmin
from hplus.realtime.models import Connection


@admin.register(Connection)
class ConnectionAdmin(TenancyAdmin):
    list_display = ["user", "role", "works_at", "device_id", "connected_at", "server", "address"]
    list_filter = ["role"]
    list_select_related = ["user__hospital", "server"]
    search_fields = ["user__user_id", "user__name", "device_id"]
    fields = list_display
    ordering = ["-connected_at"]

    @admin.display(description="hospital", ordering="hospital")
    def works_at(self, connection: Connection) -> Any:
        return connection.user.hospital or "–"
