"""Positions over HTTP: same rights, same shapes as the socket."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hplus.api.openapi import described
from location import actions, geojson
from location.messages import LastSeen


class LocationView(APIView):
    @described(None, LastSeen)
    def get(self, request: Request, user_id: str) -> Response:
        """Where somebody is whom I may see, and the way there."""
        found, way = actions.see(request.user, user_id)
        return Response({**found.fields(), "track": geojson.collection(way)})
