"""Positions over HTTP: the rights and shapes of the socket."""

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
        """Read the last position of a user whose position one may see, and the track that leads there."""
        position, track = actions.last_seen(request.user, user_id)
        return Response({**position.fields(), "track": geojson.collection(track)})
