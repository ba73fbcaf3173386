"""Notices over HTTP: same rules, same actions, same shapes as the socket."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from drf_spectacular.utils import OpenApiParameter, extend_schema
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hplus.api.answers import shaped
from hplus.api.openapi import described
from hplus.api.requests import body_of, query_of
from hplus.notifications import actions, messages
from hplus.notifications.models import Notification
from hplus.protocol.wire import Id, OptionalId, Shape
from hplus.realtime.rest import ActionResult, response_of


class PageQuery(Shape):
    before: OptionalId = None
    unread: bool = False
    limit: Annotated[int, Field(ge=1, le=100)] = 50


class Listed(messages.Notice):
    """One of my notices, and when I read it."""

    read_at: datetime | None

    @classmethod
    def of(cls, notice: Notification) -> Self:
        return cls(**cls.fields_from(notice), read_at=notice.read_at)


class Notices(Shape):
    """A page of the user's notices, the latest first; `nextCursor` is the `before` of the next page."""

    notifications: list[Listed]
    unread_count: int
    next_cursor: str | None
    has_more: bool


class MarkRead(Shape):
    """The notice to mark as read."""

    notification_id: Id


class NotificationsView(APIView):
    @extend_schema(
        parameters=[
            OpenApiParameter("before", str),
            OpenApiParameter("unread", bool),
            OpenApiParameter("limit", int),
        ],
        responses=Notices,
    )
    def get(self, request: Request) -> Response:
        """Return the user's notices, the latest first, and how many are unread."""
        page_query = query_of(request, PageQuery)
        rows, has_more = actions.notices_of(request.user, **page_query.model_dump())
        page = Notices(
            notifications=[Listed.of(row) for row in rows],
            unread_count=actions.unread_count(request.user),
            next_cursor=rows[-1].pk if has_more else None,
            has_more=has_more,
        )
        return shaped(page)

    @described(messages.Notify, ActionResult)
    def post(self, request: Request) -> Response:
        """Send a notice to people of my hospital, or mark one as read (`notification`)."""
        command = body_of(request, messages.Notify)
        return response_of(actions.do(request.user, command), 201 if command.action == "send" else 200)


class ReadView(APIView):
    @described(MarkRead, ActionResult)
    def post(self, request: Request) -> Response:
        """Mark a notice as read (`notification` with action `markRead`)."""
        command = body_of(request, MarkRead)
        return response_of(actions.mark_read(request.user, command.notification_id))
