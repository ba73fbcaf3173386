"""Conversations over HTTP: the actions and shapes of the socket."""

from __future__ import annotations

from django.http import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from chat import actions, attachments, messages
from hplus.api.answers import shaped
from hplus.api.openapi import described
from hplus.api.requests import FormParser, body_of, id_of, read
from hplus.api.throttling import read_long_answer
from hplus.protocol.wire import Id, Shape
from hplus.realtime.rest import response_of


class Room(Shape):
    """A conversation of the signed-in user."""

    chat_room_id: str
    hospital_id: str
    peer: messages.Peer
    unread_count: int
    last_message: messages.ChatMessage | None


class Rooms(Shape):
    """The conversations of the signed-in user, the latest first."""

    rooms: list[Room]


class Uploaded(Shape):
    """A stored file, in the shape that `sendMessage` takes as an attachment."""

    url: str
    name: str
    size: int
    type: str


class RoomsView(APIView):
    @described(None, Rooms)
    def get(self, request: Request) -> Response:
        """List the conversations of the signed-in user, the latest first."""
        rooms = [Room(**row) for row in actions.rooms_of(request.user)]
        return shaped(Rooms(rooms=rooms))

    @described(messages.JoinChatRoom, messages.ChatRoomJoined)
    def post(self, request: Request) -> Response:
        """Open the conversation with one person in a hospital (`joinChatRoom`)."""
        return response_of(actions.join(request.user, body_of(request, messages.JoinChatRoom)))


class RoomMessagesView(APIView):
    @extend_schema(
        parameters=[
            OpenApiParameter("before", str),
            OpenApiParameter("after", str),
            OpenApiParameter("limit", int),
        ],
        responses=messages.MessageHistory,
    )
    def get(self, request: Request, chat_room_id: str) -> Response:
        """Read a page of a room's messages, oldest first (`getMessages`)."""
        query = read(messages.GetMessages, {**request.query_params.dict(), "chatRoomId": chat_room_id})
        return response_of(read_long_answer(request.user, lambda: actions.get_messages(request.user, query)))


class Upload(Shape):
    """A file of at most 10 MiB for one room, as multipart form data.

    One that no message names within 24 hours is deleted. `QUOTA_EXCEEDED` says in `details.bytesLeft` what
    still fits into the quota of `details.scope`: user (in 24 hours), room, hospital or server.
    """

    chat_room_id: Id
    file: str = Field(json_schema_extra={"format": "binary"})


class AttachmentsView(APIView):
    parser_classes = [FormParser]

    @extend_schema(request={"multipart/form-data": Upload}, responses=Uploaded)
    def post(self, request: Request) -> Response:
        """Store a file for a room. Its type is determined by its content."""
        room = actions.find_room(request.user, id_of(request.data.get("chatRoomId")))
        stored = attachments.store(request.user, room, request.FILES.get("file"))
        url = request.build_absolute_uri(f"/api/chat/attachments/{stored.pk}/")
        uploaded = Uploaded(url=url, name=stored.name, size=stored.size_bytes, type=stored.kind)
        return shaped(uploaded, 201)


class AttachmentView(APIView):
    @extend_schema(
        parameters=[OpenApiParameter("original", bool)],
        responses={(200, "*/*"): bytes, (206, "*/*"): bytes},
    )
    def get(self, request: Request, attachment_id: str) -> HttpResponseBase:
        """Download a file or a part of it (`Range`), as a member of its room or an admin of its hospital.

        It ends with its message. Pictures and videos come without place and time; `original=1` gives those
        who may read originals the upload as it came, and is recorded in the audit.
        """
        is_original = request.query_params.get("original") == "1"
        open_ = attachments.open_original if is_original else attachments.open_attachment
        return attachments.response_with(request, open_(request.user, id_of(attachment_id)))
