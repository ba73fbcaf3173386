"""Actions over HTTP: a view calls the same action as the consumer does for its request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic.alias_generators import to_camel
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hplus.accounts.models import User
from hplus.api.openapi import described
from hplus.api.requests import body_of
from hplus.protocol import wire
from hplus.realtime.actions import Result


class ActionResult(wire.Shape):
    """Whether it was done now (`ok`) or before (`duplicate`, `merged`), and the ids of what was made."""

    status: str
    data: dict[str, Any] | None


def response_of(result: Result, status: int = 200) -> Response:
    """Return the result's first event as the response; without one, what the `ack` of the socket carries."""
    events = [event for event in result.events if isinstance(event, wire.Event)]
    if events:
        return Response(events[0].fields(), status=status)
    is_new = result.status == "ok"
    return Response({"status": result.status, "data": result.ack_data}, status=status if is_new else 200)


def action_view(
    command: type[wire.Request], act: Callable[[User, Any], Result], status: int = 200
) -> type[APIView]:
    """Make a view that calls the action for this request; ids may stand in the address."""

    class ActionView(APIView):
        throttle_classes = APIView.throttle_classes if command.rate_limited else []

        @described(command, ActionResult)
        def post(self, request: Request, **in_address: str) -> Response:
            given = {to_camel(name): value for name, value in in_address.items()}
            return response_of(act(request.user, body_of(request, command, **given)), status)

    ActionView.post.__doc__ = command.__doc__
    return ActionView
