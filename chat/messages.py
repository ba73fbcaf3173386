"""The words of the chat."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from django.conf import settings
from pydantic import ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from chat.lenient import as_bytes, as_text, name_in
from chat.models import Message, MessageType
from hplus.errors import ValidationFailed
from hplus.protocol.wire import Durable, Event, Id, Latitude, Longitude, OptionalId, Request, Shape


class Attached(Shape):
    """A file that a message points to; what else the client says of it is kept.

    Type, name and size only describe it and go out in the guide's types whatever came in; what
    was sent otherwise is kept in `asSent`.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")

    url: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    type: Annotated[str, StringConstraints(max_length=100)] = "file"
    name: Annotated[str, StringConstraints(max_length=255)] = ""
    size: Annotated[int, Field(ge=0, lt=2**53)] = 0

    @model_validator(mode="before")
    @classmethod
    def _in_the_guides_types(cls, given: Any) -> Any:
        """Null is absent, and no message is lost for a size of "12 KB"."""
        if not isinstance(given, dict):
            return given
        sent = {k: v for k, v in given.items() if v is not None}
        told = {
            **{k: as_text(sent[k])[:most] for k, most in (("type", 100), ("name", 255)) if k in sent},
            **({"size": as_bytes(sent["size"])} if "size" in sent else {}),
        }
        odd = {k: sent[k] for k, v in told.items() if v != sent[k]}
        return {**sent, **told, **({"asSent": odd} if odd else {})}

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        """The guide's client reads a name as a String that is never null."""
        self.name = self.name or name_in(self.url) or "file"
        return self


class Place(Shape):
    """Where something is, in degrees (WGS 84)."""

    lat: Latitude
    lng: Longitude
    address: Annotated[str | None, StringConstraints(max_length=500)] = None


# What a client says


class JoinChatRoom(Request):
    """I open the conversation with this person in this hospital."""

    type = "joinChatRoom"
    receiver_id: Id
    hospital_id: Id


class SendMessage(Request):
    """This is for that person."""

    type = "sendMessage"
    receiver_id: Id
    hospital_id: Id
    message: str = ""
    message_type: Literal["text", "image", "file", "audio", "video", "location"] = "text"
    reply_to: OptionalId = None
    attachments: Annotated[list[Attached] | None, Field(max_length=20)] = None
    location: Place | None = None
    priority: Literal["normal", "urgent"] = "normal"

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        is_place = self.message_type == MessageType.LOCATION
        if not self.message.strip() and not self.attachments and not self.location and not is_place:
            raise ValidationFailed("message: is empty", field="message", reason="is empty")
        return self


class MarkAsRead(Request):
    """I have read this message (or, with upTo, everything up to it)."""

    type = "markAsRead"
    message_id: Id
    chat_room_id: OptionalId = None
    up_to: bool = False


class Typing(Request):
    """I am writing, or I have stopped."""

    type = "typing"
    no_reply = True
    receiver_id: Id
    hospital_id: Id
    is_typing: bool = True


class DeleteMessage(Request):
    """Take this message back."""

    type = "deleteMessage"
    message_id: Id
    chat_room_id: OptionalId = None
    reason: Annotated[str | None, StringConstraints(max_length=500)] = None


class EditMessage(Request):
    """I meant this."""

    type = "editMessage"
    message_id: Id
    message: Annotated[str, StringConstraints(pattern=r"\S")]


class GetMessages(Request):
    """Show me what was said before (or after) this message."""

    type = "getMessages"
    chat_room_id: Id
    before: OptionalId = None
    after: OptionalId = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50


# What HPlus says


class ChatMessage(Shape):
    """A message as every reader gets it."""

    message_id: str
    sender_id: str
    receiver_id: str
    hospital_id: str
    message: str
    message_type: str
    timestamp: datetime
    is_read: bool
    is_delivered: bool
    reply_to: str | None
    attachments: list[dict[str, Any]] | None
    chat_room_id: str
    client_message_id: str | None
    client_timestamp: str | None
    edited_at: datetime | None
    deleted_at: datetime | None
    sender_name: str
    sender_role: str
    priority: str
    location: dict[str, Any] | None

    @classmethod
    def of(cls, message: Message) -> Self:
        """Needs the message's `room` and `sender` at hand."""
        return cls(
            message_id=message.message_id,
            sender_id=message.sender_id,
            receiver_id=message.receiver_id,
            hospital_id=message.room.hospital_id,
            message_type=message.message_type,
            timestamp=message.sent_at,
            is_read=message.read_at is not None,
            is_delivered=message.delivered_at is not None,
            reply_to=message.reply_to,
            chat_room_id=message.room_id,
            client_message_id=message.client_message_id,
            client_timestamp=message.client_timestamp,
            edited_at=message.edited_at,
            deleted_at=message.deleted_at,
            sender_name=message.sender.display_name,
            sender_role=message.sender.role,
            priority=message.priority,
            **message.shown(),
        )


class Peer(Shape):
    user_id: str
    name: str
    role: str
    online: bool


class Page(Shape):
    """Messages, oldest first, and where the ones before (or after) them begin.

    Fewer than were asked for where they are very long.
    """

    messages: list[ChatMessage]
    next_cursor: str | None
    has_more: bool


class OpenedRoom(Page):
    unread_count: int
    peer: Peer


class ChatRoomJoined(Event):
    """This is the conversation so far."""

    type = "chatRoomJoined"
    chat_room_id: str
    receiver_id: str
    hospital_id: str
    data: OpenedRoom


class MessageHistory(Event):
    """That was said there."""

    type = "messageHistory"
    chat_room_id: str
    data: Page


class _AboutMessage(Durable):
    """Something became of a message; told again from the message's row."""

    message_id: str
    chat_room_id: str

    def subject(self) -> str:
        return self.message_id

    def topic(self) -> str:
        return self.chat_room_id

    @classmethod
    def of(cls, message: Message) -> Self:
        return cls(message_id=message.message_id, chat_room_id=message.room_id, **cls.became(message))

    @classmethod
    def became(cls, message: Message) -> dict[str, Any]:
        """What this event says of the message besides which it is."""
        raise NotImplementedError

    @classmethod
    def rebuild(cls, subjects: Iterable[str]) -> dict[str, Durable]:
        found = Message.objects.select_related("room", "sender").filter(message_id__in=subjects)
        return {message.message_id: cls.of(message) for message in found}


class NewMessage(_AboutMessage):
    """Somebody says something."""

    type = "newMessage"
    flattened = True
    data: ChatMessage

    def author(self) -> str:
        return self.data.sender_id

    def push_category(self) -> str:
        return "message"

    @classmethod
    def became(cls, message: Message) -> dict[str, Any]:
        return {"data": ChatMessage.of(message)}


class MessageDelivered(_AboutMessage):
    """Your message has reached a screen of the other side."""

    type = "messageDelivered"
    user_id: str
    delivered_at: datetime | None

    @classmethod
    def became(cls, message: Message) -> dict[str, Any]:
        return {"user_id": message.receiver_id, "delivered_at": message.delivered_at}


class MessageRead(_AboutMessage):
    """Your message has been read."""

    type = "messageRead"
    reader_id: str
    read_at: datetime | None

    @classmethod
    def became(cls, message: Message) -> dict[str, Any]:
        return {"reader_id": message.receiver_id, "read_at": message.read_at}


class MessageEdited(_AboutMessage):
    """This message now reads otherwise."""

    type = "messageEdited"
    data: ChatMessage

    @classmethod
    def became(cls, message: Message) -> dict[str, Any]:
        return {"data": ChatMessage.of(message)}


class MessageDeleted(_AboutMessage):
    """This message has been taken back."""

    type = "messageDeleted"
    deleted_by: str | None
    deleted_at: datetime | None

    @classmethod
    def became(cls, message: Message) -> dict[str, Any]:
        return {"deleted_by": message.deleted_by_id, "deleted_at": message.deleted_at}


class TypingShown(Event):
    """The other side is writing, or has stopped."""

    type = "typing"
    user_id: str
    sender_id: str
    receiver_id: str
    hospital_id: str
    chat_room_id: str
    is_typing: bool
    expires_in: int = settings.TYPING_SECONDS

    def topic(self) -> str:
        return self.chat_room_id

    def author(self) -> str:
        return self.user_id


class MessageNotification(Event):
    """There is a message in another of your conversations."""

    type = "notification"
    notification_id: str
    category: Literal["message"] = "message"
    title: str
    body: str
    priority: str
    data: ChatMessage
    timestamp: datetime
    # Its place in the mailbox, added for each recipient.
    seq: int | None = Field(default=None, exclude_if=lambda seq: seq is None)
    event_id: str | None = Field(default=None, exclude_if=lambda event_id: event_id is None)
