"""Emergencies in the admin site: the live board, and the page of one emergency with its actions.

The page calls the same actions as the socket, so phones are told.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin

from emergency import actions, audience, board, charts
from emergency.amend import amend
from emergency.case_report import (
    STALLS,
    CaseReport,
    assignable,
    duration_text,
    humanized,
    other_hospitals,
    score_text,
)
from emergency.escalation_ack import acknowledge_escalation, is_asked
from emergency.hospital_admin import HospitalAdmin
from emergency.hospital_part import part_of
from emergency.messages import AcknowledgeEscalation, Amend, Reassign, Transfer, UpdateStatus
from emergency.models import Emergency, HospitalPart, Priority
from hplus import errors
from hplus.accounts.models import Hospital, User
from hplus.admin_site.tenancy_admin import TenancyAdmin, may_administer
from hplus.api import requests
from hplus.protocol.wire import Request

__all__ = ["EmergencyAdmin", "HospitalAdmin", "HospitalPartAdmin"]

# name in the address → the request as the socket reads it, the action, and what the page says after it
ACTIONS: dict[str, tuple[type[Request], Callable[[User, Any], object], str]] = {
    "assign": (Reassign, actions.reassign, "Assigned."),
    "amend": (Amend, amend, "Corrected."),
    "cancel": (UpdateStatus, actions.update_status, "Cancelled."),
    "acknowledge": (AcknowledgeEscalation, acknowledge_escalation, "Nobody is asked for five minutes."),
    "transfer": (Transfer, actions.transfer, "Transferred to the other hospital."),
}


def front_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return the context of the live board, on the first page of the admin site."""
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
        "board": charts.read_board(request.user, hospital).as_json(),
        "board_setup": {
            "hospitalId": hospital.pk,
            "boardUrl": reverse("admin:emergency_board"),
            "tileUrl": settings.MAP_TILE_URL,
        },
    }


@admin.register(Emergency)
class EmergencyAdmin(TenancyAdmin):
    """The list of emergencies, and for each a page with its case report."""

    list_display = [
        "priority_shown", "condition_shown", "patient_shown", "status_shown", "assigned_to", "score",
        "escalation", "requested_at",
    ]  # fmt: skip
    list_display_links = ["priority_shown", "condition_shown"]
    list_filter = ["status", "priority", "phase"]
    search_fields = ["emergency_id", "patient_id", "patient_name", "condition"]
    list_select_related = ["assigned_to"]
    ordering = ["-requested_at"]
    # Times, without personal data of the patient.
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
        phase = f", {humanized(emergency.phase)}" if emergency.phase and emergency.is_open else ""
        return humanized(emergency.status) + phase

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
        return score_text(emergency.current_news2(timezone.now()))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Emergency]:
        """Those whose chart the user may read."""
        rows: QuerySet[Emergency] = super().get_queryset(request).readable_by(request.user)
        return rows

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The list; which emergencies it shows is recorded."""
        response = super().changelist_view(request, extra_context)
        shown = getattr(response, "context_data", None) or {}
        if "cl" in shown:
            charts.note_readings(request.user, shown["cl"].result_list, "admin list")
        return response

    # Pages of its own

    def get_urls(self) -> list[URLPattern]:
        enter = self.admin_site.admin_view
        own = [
            path("board/", enter(self.board_view), name="emergency_board"),
            path("<str:object_id>/action/<str:name>/", enter(self.action_view), name="emergency_action"),
            path("<str:object_id>/export/<str:kind>/", enter(self.export_view), name="emergency_export"),
        ]
        return [*own, *super().get_urls()]

    def board_view(self, request: HttpRequest) -> HttpResponse:
        """Return the data of the board, for a page that got `boardChanged`."""
        if not may_administer(request.user):
            raise PermissionDenied
        try:
            hospital = board.hospital_for(request.user, request.GET.get("hospital", ""))
        except errors.HospitalNotFound:
            raise Http404 from None
        if hospital is None:
            raise Http404
        return JsonResponse(charts.read_board(request.user, hospital).as_json())

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if request.method != "GET" or not self.has_view_permission(request):
            raise PermissionDenied
        emergency = self.get_object(request, unquote(object_id))
        if emergency is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        report = charts.read_report(request.user, emergency.pk)
        context = {**self.admin_site.each_context(request), **self._page_of(report, request.user)}
        return TemplateResponse(request, "admin/emergency/emergency/page.html", context)

    def _page_of(self, report: CaseReport, user: Any) -> dict[str, Any]:
        emergency = report.emergency
        news2 = emergency.current_news2(timezone.now())
        may_act = emergency.is_open and audience.is_dispatcher(user, emergency.hospital_id)
        return {
            "title": f"{emergency.priority.capitalize()}: {emergency.condition[:80]}",
            "emergency": emergency,
            "status_text": humanized(emergency.status),
            "phase_text": humanized(emergency.phase),
            "news2": news2,
            "news2_text": score_text(news2),
            "duration": duration_text(report.duration_seconds()),
            "events": report.events(),
            "may_act": may_act,
            "is_asked": may_act and is_asked(emergency),
            "stalled_text": STALLS.get(emergency.stalled_cause, ""),
            "assignable": assignable(emergency) if may_act else [],
            "priorities": Priority.values,
            "hospitals": other_hospitals(emergency) if may_act else [],
            "page_data": {
                "emergencyId": emergency.pk,
                "hospitalId": emergency.hospital_id,
                "isOpen": emergency.is_open,
                "tileUrl": settings.MAP_TILE_URL,
                "scene": [emergency.lat, emergency.lng],
                "requestedAt": emergency.requested_at.isoformat(),
                "positions": report.positions(),
                "names": report.names,
                "scores": report.scores(),
            },
        }

    def action_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        return require_POST(self._run_action)(request, object_id, name)

    def _run_action(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Call the action as the socket does, show its result, and go back to the page."""
        emergency = self.get_object(request, unquote(object_id))
        if emergency is None or name not in ACTIONS:
            raise Http404
        request_type, action, success = ACTIONS[name]
        fields: dict[str, Any] = {
            key: value for key, value in request.POST.items() if key != "csrfmiddlewaretoken"
        }
        if name == "cancel":
            fields["status"] = "cancelled"
        if name == "amend":
            reason = fields.pop("reason", "")
            fields = {"reason": reason, "changes": {key: value for key, value in fields.items() if value}}
        try:
            action(request.user, requests.read(request_type, {**fields, "emergencyId": emergency.pk}))
            ModelAdmin.log_change(self, request, emergency, success)  # the action has recorded it
            messages.success(request, success)
        except errors.Refusal as refusal:
            messages.error(request, refusal.message)
        is_still_visible = Emergency.objects.visible_to(request.user).filter(pk=emergency.pk).exists()
        page = reverse("admin:emergency_emergency_change", args=[emergency.pk])
        return HttpResponseRedirect(page if is_still_visible else reverse("admin:index"))

    def export_view(self, request: HttpRequest, object_id: str, kind: str) -> HttpResponse:
        """Download the whole emergency: as JSON of HPlus, or as an HL7 FHIR R4 Bundle."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        emergency = self.get_object(request, unquote(object_id))
        if emergency is None or kind not in ("json", "fhir"):
            raise Http404
        content = charts.export(request.user, emergency.pk, kind)
        headers = {"Content-Disposition": f'attachment; filename="emergency-{emergency.pk}.{kind}.json"'}
        types = {"fhir": "application/fhir+json", "json": "application/json"}
        return JsonResponse(
            content, headers=headers, content_type=types[kind], json_dumps_params={"indent": 2}
        )


@admin.register(HospitalPart)
class HospitalPartAdmin(TenancyAdmin):
    """What a hospital keeps of emergencies that another one has taken over."""

    list_display = ["emergency_id", "hospital", "until"]
    search_fields = ["emergency__emergency_id"]
    fields = ["emergency_id", "hospital", "until", "record_shown"]

    class Media:
        css = {"all": ["hplus/board/board.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[HospitalPart]:
        """Those that the user's role reads by the policy of the hospital."""
        rows: QuerySet[HospitalPart] = super().get_queryset(request).readable_by(request.user)
        return rows

    @admin.display(description="record")
    def record_shown(self, part: HospitalPart) -> str:
        return format_html(
            '<pre class="hp-record">{}</pre>',
            json.dumps(part_of(part).as_json(), indent=2, ensure_ascii=False),
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The page of a part; who reads it is recorded."""
        part = self.get_object(request, unquote(object_id))
        if part is not None and self.has_view_permission(request, part):
            charts.note_part(request.user, part, "part page")
        return super().change_view(request, object_id, form_url, extra_context)
