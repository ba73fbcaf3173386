"""Emergencies over HTTP: the actions and shapes of the socket."""

from __future__ import annotations

from typing import Annotated, Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from pydantic import AfterValidator, Field
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from emergency import actions, charts, messages, response_times, timeline
from emergency.call_for_help import request_help
from emergency.calls_as_sent import Calls, calls_of
from emergency.hospital_part import Part
from emergency.status import Status
from hplus.api.answers import shaped
from hplus.api.media_types import FhirRenderer, GeoJsonRenderer
from hplus.api.openapi import described
from hplus.api.requests import body_of, query_of
from hplus.protocol.wire import OptionalId, Shape
from hplus.realtime.rest import ActionResult, response_of
from location.geojson import collection


def _statuses(text: str) -> str:
    unknown = set(text.split(",")) - set(Status.values)
    if unknown:
        raise ValueError(f"is one of {', '.join(Status.values)}, or several with commas between")
    return text


class EmergencyQuery(Shape):
    status: Annotated[str, AfterValidator(_statuses)] = ",".join(Status.values)
    limit: Annotated[int, Field(ge=1, le=200)] = 100
    cursor: OptionalId = None


class DaysQuery(Shape):
    days: Annotated[int, Field(ge=1, le=366)] = 30


class Emergencies(Shape):
    """Open emergencies, the most urgent first, then those that are over, the latest first.

    `nextCursor` is what to give as `cursor` for more; a page has at most 64 KiB.
    """

    emergencies: list[messages.EmergencyRequest]
    next_cursor: str | None
    has_more: bool


class EmergenciesView(APIView):
    request_type = messages.RequestHelp.type

    @extend_schema(
        operation_id="emergencies_list",
        parameters=[
            OpenApiParameter("status", str),
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
        ],
        responses=Emergencies,
    )
    def get(self, request: Request) -> Response:
        """List the emergencies one may see, by `status` (several with commas between)."""
        query = query_of(request, EmergencyQuery)
        shown, cursor = charts.list_emergencies(
            request.user, query.status.split(","), query.limit, query.cursor
        )
        return Response({"emergencies": shown, "nextCursor": cursor, "hasMore": cursor is not None})

    @described(messages.RequestHelp, ActionResult)
    def post(self, request: Request) -> Response:
        """Call for help (`emergencyRequest`)."""
        return response_of(request_help(request.user, body_of(request, messages.RequestHelp)), 201)

    def get_throttles(self) -> list[Any]:
        """Let every call for help through: it is never rate limited."""
        return [] if self.request.method == "POST" else list(super().get_throttles())


class EmergencyView(APIView):
    @described(None, messages.EmergencyRequest)
    def get(self, request: Request, emergency_id: str) -> Response:
        """Read one emergency as it stands now."""
        return shaped(charts.read_emergency(request.user, emergency_id))


class TimelineView(APIView):
    @described(None, timeline.Timeline)
    def get(self, request: Request, emergency_id: str) -> Response:
        """Read everything that happened in an emergency, in the order of time."""
        return shaped(charts.read_timeline(request.user, emergency_id))


class TrackView(APIView):
    renderer_classes = [GeoJsonRenderer, JSONRenderer]

    @extend_schema(responses={(200, "application/geo+json"): OpenApiTypes.OBJECT})
    def get(self, request: Request, emergency_id: str) -> Response:
        """Read the positions of those who took part, as GeoJSON (RFC 7946)."""
        return Response(collection(charts.read_positions(request.user, emergency_id)))


class FhirView(APIView):
    renderer_classes = [FhirRenderer, JSONRenderer]

    @extend_schema(responses={(200, "application/fhir+json"): OpenApiTypes.OBJECT})
    def get(self, request: Request, emergency_id: str) -> Response:
        """Read an emergency as an HL7 FHIR R4 Bundle."""
        return Response(charts.read_bundle(request.user, emergency_id))


class CallsQuery(Shape):
    limit: Annotated[int, Field(ge=1, le=50)] = 20
    cursor: OptionalId = None


class CallsView(APIView):
    @extend_schema(
        parameters=[OpenApiParameter("limit", int), OpenApiParameter("cursor", str)], responses=Calls
    )
    def get(self, request: Request, emergency_id: str) -> Response:
        """Read the calls for help whole, as they were sent: the first, then those added to it."""
        emergency = charts.open_chart(request.user, emergency_id, "calls")
        return shaped(calls_of(emergency, **query_of(request, CallsQuery).model_dump()))


class PartView(APIView):
    @described(None, Part)
    def get(self, request: Request, emergency_id: str) -> Response:
        """Read what your hospital keeps of an emergency that another one has taken over."""
        return shaped(charts.read_part(request.user, emergency_id))


class NearestView(APIView):
    @described(None, messages.NearestResponders)
    def get(self, request: Request, emergency_id: str) -> Response:
        """List staff with a fresh position, the nearest first (`nearestResponders`)."""
        query: Any = messages.FindNearestResponders(emergency_id=emergency_id)
        return response_of(actions.nearest_responders(request.user, query))


class ResponseTimesView(APIView):
    @extend_schema(parameters=[OpenApiParameter("days", int)], responses=response_times.HospitalTimes)
    def get(self, request: Request) -> Response:
        """Read the response times of the signed-in user's hospital, compared with its targets."""
        return shaped(response_times.own_hospital(request.user, query_of(request, DaysQuery).days))
