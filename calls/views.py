"""Call records over HTTP, in the shapes of the socket."""

from __future__ import annotations

from typing import Annotated

from drf_spectacular.utils import OpenApiParameter, extend_schema
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from calls import actions, messages
from hplus.api.answers import shaped
from hplus.api.openapi import described
from hplus.api.requests import query_of
from hplus.protocol.wire import OptionalId, Shape


class CallQuery(Shape):
    before: OptionalId = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50


class Calls(Shape):
    """Calls, the latest first; `nextCursor` goes into `before` for the next page."""

    calls: list[messages.CallRecord]
    next_cursor: str | None
    has_more: bool


class CallsView(APIView):
    @extend_schema(
        operation_id="calls_list",
        parameters=[OpenApiParameter("before", str), OpenApiParameter("limit", int)],
        responses=Calls,
    )
    def get(self, request: Request) -> Response:
        """List the calls of the signed-in user, missed ones too; for an admin those of the hospital."""
        page = query_of(request, CallQuery)
        found, has_more = actions.calls_of(request.user, page.before, page.limit)
        calls = Calls(
            calls=[messages.CallRecord.of(call) for call in found],
            next_cursor=found[-1].pk if has_more else None,
            has_more=has_more,
        )
        return shaped(calls)


class CallView(APIView):
    @described(None, messages.CallRecord)
    def get(self, request: Request, call_id: str) -> Response:
        """Read one call."""
        call = actions.find_call(request.user, call_id)
        return shaped(messages.CallRecord.of(call))
