"""Replay over HTTP."""

from __future__ import annotations

import json
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hplus.api.requests import query_of
from hplus.api.throttling import read_long_answer
from hplus.protocol.wire import Event, Shape
from hplus.realtime.connection.actions import sync
from hplus.realtime.messages import Sync
from hplus.realtime.publishing.envelopes import Envelope


class Missed(Shape):
    """The events after the cursor, as the socket sends them, and the `syncComplete` with the new cursor."""

    events: list[dict[str, Any]]
    complete: dict[str, Any]


class SyncView(APIView):
    @extend_schema(
        parameters=[
            OpenApiParameter("since", int, required=True),
            OpenApiParameter("epoch", str),
            OpenApiParameter("limit", int),
        ],
        responses=Missed,
    )
    def get(self, request: Request) -> Response:
        """Return the durable events after `since`."""
        query = query_of(request, Sync)
        replayed = read_long_answer(request.user, lambda: sync(request.user, query)).events
        entries = [
            json.loads(entry.stamped(entry.seq or 0)) for entry in replayed if isinstance(entry, Envelope)
        ]
        [complete] = [event.fields() for event in replayed if isinstance(event, Event)]
        return Response({"events": entries, "complete": complete})
