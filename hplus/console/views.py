"""The debug console: connect as any user, send messages, see the frames. Demo mode only."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_safe

from hplus.accounts.models import User
from hplus.protocol.examples import example
from hplus.protocol.registry import domains, published_messages
from hplus.protocol.schemas import Schemas

PEOPLE_LISTED = 200


@require_safe
def console(request: HttpRequest) -> HttpResponse:
    if not settings.HPLUS_DEMO:
        raise Http404
    people = User.objects.filter(is_active=True, is_superuser=False).order_by("hospital_id", "user_id")
    columns = people.values("user_id", "name", "role", "hospital_id")[:PEOPLE_LISTED]
    return render(request, "console.html", {"people": list(columns), "samples": samples()})


def samples() -> list[dict[str, Any]]:
    """Return the example of each request in the published protocol."""
    schemas = Schemas.of(published_messages())
    return [
        {"type": message.type, "domain": domain.title, "frame": example(request, schemas)}
        for domain in domains()
        for message in domain.sent_by("client")
        for request in message.classes
    ]


urlpatterns = [path("", console, name="console")]
