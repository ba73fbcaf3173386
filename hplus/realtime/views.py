"""Catching up over HTTP."""

from __future__ import annotations

import json
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hplus.realtime.catching_up import sync
from hplus.realtime.messages import Sync
from hplus.realtime.parcels import Parcel
from hplus.rest import query_of
from hplus.wire import Event, Shape


class Missed(Shape):
    """The events after the cursor, as the socket would have sent them, and where that leaves you."""

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
        """What happened since the last letter I have."""
        said = sync(request.user, query_of(request, Sync)).says
        letters = [json.loads(letter.frame) for letter in said if isinstance(letter, Parcel)]
        [complete] = [event.fields() for event in said if isinstance(event, Event)]
        return Response({"events": letters, "complete": complete})
