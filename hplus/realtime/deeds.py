"""Deeds over HTTP: what the socket does for a request, a view does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic.alias_generators import to_camel
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hplus import wire
from hplus.accounts.models import User
from hplus.realtime.answers import Answer
from hplus.rest import body_of, described


class Done(wire.Shape):
    """What was made or changed."""

    status: str
    data: dict[str, Any] | None


def said(answer: Answer, status: int = 200) -> Response:
    """The answer's own event where it has one, else what the socket's ack would name."""
    events = [event for event in answer.says if isinstance(event, wire.Event)]
    if events:
        return Response(events[0].fields(), status=status)
    word = "duplicate" if answer.is_duplicate else "ok"
    return Response({"status": word, "data": answer.made}, status=200 if answer.is_duplicate else status)


def deed(wish: type[wire.Request], act: Callable[[User, Any], Answer], status: int = 200) -> type[APIView]:
    """A view that calls the action for this request; ids may stand in the address."""

    class DeedView(APIView):
        throttle_classes = APIView.throttle_classes if wish.rate_limited else []

        @described(wish, Done)
        def post(self, request: Request, **in_address: str) -> Response:
            given = {to_camel(name): value for name, value in in_address.items()}
            return said(act(request.user, body_of(request, wish, **given)), status)

    DeedView.post.__doc__ = wish.__doc__
    return DeedView
