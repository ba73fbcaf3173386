"""HTTP: the API of each domain, the pages, the admin."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerSplitView

from hplus.api.openapi import SchemaView

handler404 = "hplus.api.answers.not_found"

urlpatterns = [
    path(
        "", RedirectView.as_view(url="/admin/")
    ),  # the WebSocket at the same address is routed by hplus.routing
    path("admin/", admin.site.urls),
    path("", include("hplus.protocol.views")),
    path("console/", include("hplus.console.views")),
    path("health/", include("hplus.operations.health")),
    path("", include("hplus.operations.metrics")),
    path("api/auth/", include("hplus.accounts.urls")),
    path("api/sync/", include("hplus.realtime.urls")),
    path("api/chat/", include("chat.urls")),
    path("api/emergencies/", include("emergency.urls")),
    path("api/location/", include("location.urls")),
    path("api/calls/", include("calls.urls")),
    path("api/notifications/", include("hplus.notifications.urls")),
    path("api/schema/", SchemaView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
]
