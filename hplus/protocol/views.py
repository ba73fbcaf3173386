"""The pages of the published protocol."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils.html import escape
from django.utils.safestring import mark_safe
from django.views.decorators.http import require_safe

from hplus.api.documents import made_once
from hplus.protocol import document, rules
from hplus.protocol.asyncapi import as_yaml


@require_safe
@made_once
def protocol(request: HttpRequest) -> HttpResponse:
    """Respond with the document for people, on one page without a script."""
    address = f"{'wss' if request.is_secure() else 'ws'}://{request.get_host()}"
    content = document.as_html().replace(rules.LOCAL_SERVER, escape(address))
    shown = {"content": mark_safe(content), "sections": document.contents(), "version": rules.VERSION}
    return render(request, "protocol.html", shown)


@require_safe
@made_once
def asyncapi(_request: HttpRequest) -> HttpResponse:
    """Respond with the document for machines (RFC 9512 names the media type)."""
    return HttpResponse(as_yaml(), content_type="application/yaml; charset=utf-8")


urlpatterns = [
    path("protocol/", protocol, name="protocol"),
    path("protocol/asyncapi.yaml", asyncapi, name="asyncapi"),
]
