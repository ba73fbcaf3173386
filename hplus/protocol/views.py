"""Pages for people who build on HPlus."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_safe

from hplus.protocol import rules
from hplus.protocol.asyncapi import as_yaml
from hplus.protocol.tables import COMMON_FIELDS, sheet


@require_safe
def protocol(request: HttpRequest) -> HttpResponse:
    """The whole protocol on one page, without a script."""
    shown = {"sheet": sheet(), "rules": rules, "common_fields": COMMON_FIELDS.items()}
    return render(request, "protocol.html", shown)


@require_safe
def asyncapi(_request: HttpRequest) -> HttpResponse:
    """The same for machines (RFC 9512 names the media type)."""
    return HttpResponse(as_yaml(), content_type="application/yaml; charset=utf-8")


urlpatterns = [
    path("protocol/", protocol, name="protocol"),
    path("protocol/asyncapi.yaml", asyncapi, name="asyncapi"),
]
