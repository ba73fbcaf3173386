"""Emergencies for a hospital's admins: the board, the page of one, and what can be done on it.

What is done goes through the same actions as on the socket, so phones hear of it all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.http import require_POST

from emergency import actions, audience, board, fhir, timeline
from emergency.case_report import Teller, assignable, clock, other_hospitals, score_words, words
from emergency.hospital_admin import HospitalAdmin
from emergency.messages import Reassign, Transfer, UpdateStatus
from emergency.models import Emergency
from hplus import errors
from hplus.accounts.models import Hospital, User
from hplus.admin_site.tenancy_admin import TenancyAdmin, may_administer
from hplus.audit.actions import record
from hplus.audit.models import Verb
from hplus.protocol.wire import Request

__all__ = ["EmergencyAdmin", "HospitalAdmin"]

# name in the address → the request, as the socket reads it, and the action
DEEDS: dict[str, tuple[type[Request], Callable[[User, Any], object], str]] = {
    "assign": (Reassign, actions.reassign, "Assigned."),
    "cancel": (UpdateStatus, actions.update_status, "Cancelled."),
    "transfer": (Transfer, actions.transfer, "Transferred to the other hospital."),
}


def front_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the admin site's first page needs for the live board."""
    try:
        hospital = board.hospital_for(request.user, request.GET.get("hospital", ""))
    except errors.HospitalNotFound:
        raise Http404 from None
    if hospital is None or not may_administer(request.user):
        return context
    return {
        **context,
        "title": f"{hospital.name}: live board",
        "hospital": hospital,
        "hospitals": Hospital.objects.visible_to(request.user),
        "board": board.board_of(hospital).as_json(),
        "board_setup": {
            "hospitalId": hospital.pk,
            "boardUrl": reverse("admin:emergency_board"),
            "tileUrl": settings.MAP_TILE_URL,
        },
    }


@admin.register(Emergency)
class EmergencyAdmin(TenancyAdmin):
    """The list is Django's; the page of one emergency is a story of its own."""

    list_display = [
        "priority_shown", "condition_shown", "patient_shown", "status_shown", "assigned_to", "score",
        "escalation", "requested_at",
    ]  # fmt: skip
    list_display_links = ["priority_shown", "condition_shown"]
    list_filter = ["status", "priority", "phase"]
    search_fields = ["emergency_id", "patient_id", "patient_name", "condition"]
    list_select_related = ["assigned_to"]
    ordering = ["-requested_at"]
    # How long it took, without whom it was about.
    exported = [
        "emergency_id", "hospital", "priority", "status", "requested_at", "alerted_at", "accepted_at",
        "on_scene_at", "completed_at", "cancelled_at", "escalation_level", "assigned_to",
    ]  # fmt: skip

    class Media:
        css = {"all": ["hplus/board/board.css"]}

    @admin.display(description="priority", ordering="priority")
    def priority_shown(self, emergency: Emergency) -> str:
        return format_html('<span class="hp-tag hp-{0}">{0}</span>', emergency.priority)

    @admin.display(description="status", ordering="status")
    def status_shown(self, emergency: Emergency) -> str:
        phase = f", {words(emergency.phase)}" if emergency.phase and emergency.is_open else ""
        return words(emergency.status) + phase

    @admin.display(description="condition")
    def condition_shown(self, emergency: Emergency) -> str:
        return emergency.condition[:80]

    @admin.display(description="patient")
    def patient_shown(self, emergency: Emergency) -> str:
        return (emergency.patient_name or emergency.patient_id)[:60]

    @admin.display(description="escalation", ordering="escalation_level")
    def escalation(self, emergency: Emergency) -> str:
        return f"level {emergency.escalation_level}" if emergency.escalation_level else "–"

    @admin.display(description="NEWS2")
    def score(self, emergency: Emergency) -> str:
        return score_words(emergency.current_news2(timezone.now()))

    # Pages of its own

    def get_urls(self) -> list[URLPattern]:
        enter = self.admin_site.admin_view
        own = [
            path("board/", enter(self.board_view), name="emergency_board"),
            path("<str:object_id>/deed/<str:name>/", enter(self.deed_view), name="emergency_deed"),
            path("<str:object_id>/export/<str:kind>/", enter(self.export_view), name="emergency_export"),
        ]
        return [*own, *super().get_urls()]

    def board_view(self, request: HttpRequest) -> HttpResponse:
        """The board again, for a page that has heard of a change."""
        if not may_administer(request.user):
            raise PermissionDenied
        try:
            hospital = board.hospital_for(request.user, request.GET.get("hospital", ""))
        except errors.HospitalNotFound:
            raise Http404 from None
        if hospital is None:
            raise Http404
        return JsonResponse(board.board_of(hospital).as_json())

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if request.method != "GET" or not self.has_view_permission(request):
            raise PermissionDenied
        emergency = self.get_object(request, unquote(object_id))
        if emergency is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        record(request.user, Verb.READ, emergency)
        context = {**self.admin_site.each_context(request), **self._page_of(emergency, request.user)}
        return TemplateResponse(request, "admin/emergency/emergency/page.html", context)

    def _page_of(self, emergency: Emergency, user: Any) -> dict[str, Any]:
        teller = Teller(emergency, user)
        may_act = emergency.is_open and user.administers(emergency.hospital_id)
        return {
            "title": f"{emergency.priority.capitalize()}: {emergency.condition[:80]}",
            "emergency": emergency,
            "shown": audience.shown(emergency),
            "status_words": words(emergency.status),
            "phase_words": words(emergency.phase),
            "news2_words": score_words(emergency.current_news2(timezone.now())),
            "took": clock(teller.took_seconds()),
            "story": teller.story(),
            "may_act": may_act,
            "assignable": assignable(emergency) if may_act else [],
            "hospitals": other_hospitals(emergency) if may_act else [],
            "page_data": {
                "emergencyId": emergency.pk,
                "hospitalId": emergency.hospital_id,
                "isOpen": emergency.is_open,
                "tileUrl": settings.MAP_TILE_URL,
                "scene": [emergency.lat, emergency.lng],
                "requestedAt": emergency.requested_at.isoformat(),
                "positions": teller.positions(),
                "names": teller.names,
                "scores": teller.scores(),
            },
        }

    def deed_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        return require_POST(self._do)(request, object_id, name)

    def _do(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Does what the socket does for this request, and says what came of it."""
        emergency = self.get_object(request, unquote(object_id))
        if emergency is None or name not in DEEDS:
            raise Http404
        command, act, done = DEEDS[name]
        given = {key: value for key, value in request.POST.items() if key != "csrfmiddlewaretoken"}
        if name == "cancel":
            given["status"] = "cancelled"
        try:
            act(request.user, command.read({**given, "emergencyId": emergency.pk}))
            self.log_change(request, emergency, done)
            messages.success(request, done)
        except errors.Refusal as refusal:
            messages.error(request, refusal.message)
        has_connection = Emergency.objects.visible_to(request.user).filter(pk=emergency.pk).exists()
        here = reverse("admin:emergency_emergency_change", args=[emergency.pk])
        return HttpResponseRedirect(here if has_connection else reverse("admin:index"))

    def export_view(self, request: HttpRequest, object_id: str, kind: str) -> HttpResponse:
        """The whole emergency as a file: our own JSON, or an HL7 FHIR R4 Bundle."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        emergency = self.get_object(request, unquote(object_id))
        if emergency is None or kind not in ("json", "fhir"):
            raise Http404
        record(request.user, Verb.EXPORT, emergency, kind=kind)
        content = fhir.bundle(emergency) if kind == "fhir" else _as_json(emergency, request.user)
        kept = {"Content-Disposition": f'attachment; filename="emergency-{emergency.pk}.{kind}.json"'}
        types = {"fhir": "application/fhir+json", "json": "application/json"}
        return JsonResponse(content, headers=kept, content_type=types[kind], json_dumps_params={"indent": 2})


def _as_json(emergency: Emergency, reader: User) -> dict[str, Any]:
    told = timeline.timeline(emergency, reader).as_json()
    return {"emergency": audience.shown(emergency).as_json(), "timeline": told["entries"]}
