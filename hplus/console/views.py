"""The debug console: connect as any user, send messages, see the frames. Demo mode only."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_safe

from hplus.accounts.models import User
from hplus.protocol.tables import sheet

PEOPLE_LISTED = 200


@require_safe
def console(request: HttpRequest) -> HttpResponse:
    if not settings.HPLUS_DEMO:
        raise Http404
    people = User.objects.filter(is_active=True, is_superuser=False).order_by("hospital_id", "user_id")
    columns = people.values("user_id", "name", "role", "hospital_id")[:PEOPLE_LISTED]
    return render(request, "console.html", {"people": list(columns), "samples": samples()})


def samples() -> list[dict[str, Any]]:
    """What a client may say, by the examples of the published protocol."""
    return [
        {"type": entry.word.type, "domain": section.domain.title, "frame": json.loads(variant.example)}
        for section in sheet().sections
        for entry in section.entries
        for variant in entry.variants
        if entry.word.speaker == "client"
    ]


urlpatterns = [path("", console, name="console")]
