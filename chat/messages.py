"""The chat: rooms of two people, messages, receipts and typing."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from django.conf import settings
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic.alias_generators import to_camel

from chat.lenient import as_bytes, as_text, file_name_in, is_web_address
from chat.models import Message, MessageType
from hplus.errors import ValidationFailed
from hplus.protocol.numbers import must_be_bounded, unbounded_as_text
from hplus.protocol.texts import has_visible, must_be_visible
from hplus.protocol.wire import (
    MAX_MESSAGE_BYTES,
    MAX_TEXT_CHARACTERS,
    Durable,
    Event,
    Id,
    Latitude,
    Longitude,
    OptionalId,
    Request,
    Shape,
    encode,
)


class Attached(Shape):
    """A file that a message refers to; other fields that the client sends are kept.

    `type`, `name` and `size` only describe the file. They go out in the guide's types; a value of another
    type is converted, and kept as it came in `asSent`.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")

    url: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    type: Annotated[str, StringConstraints(max_length=100)] = "file"
    name: Annotated[str, StringConstraints(max_length=255)] = ""
    size: Annotated[int, Field(ge=0, lt=2**53)] = 0

    @model_validator(mode="before")
    @classmethod
    def _convert_types(cls, given: Any) -> Any:
        """Read null as absent, convert other types: no message is refused for a size of "12 KB"."""
        if not isinstance(given, dict):
            return given
        must_be_bounded({k: v for k, v in given.items() if k not in ("type", "name", "size")})
        sent = {k: v for k, v in given.items() if v is not None}
        converted = {
            **{k: as_text(sent[k])[:most] for k, most in (("type", 100), ("name", 255)) if k in sent},
            **({"size": as_bytes(sent["size"])} if "size" in sent else {}),
        }
        replaced = {k: sent[k] for k, v in converted.items() if v != sent[k]}
        return {**sent, **converted, **({"asSent": unbounded_as_text(replaced)} if replaced else {})}

    @field_validator("url")
    @classmethod
    def _must_be_shown_safely(cls, url: str) -> str:
        """Raise ValueError for `javascript:`, `data:` and other addresses that an app would run or open."""
        if not is_web_address(url):
            raise ValueError("is neither https: nor a file of HPlus")
        return url

    @model_validator(mode="after")
    def _fill_in_name(self) -> Self:
        """Take the name from the address if there is none: the guide's client needs a string."""
        self.name = self.name or file_name_in(self.url) or "file"
        return self


class Place(Shape):
    """Where something is, in degrees (WGS 84)."""

    lat: Latitude
    lng: Longitude
    address: Annotated[str | None, StringConstraints(max_length=500)] = None


def _sent_bytes(files: list[Attached]) -> int:
    return sum(len(encode(file.as_json())) for file in files)


# Requests


class JoinChatRoom(Request):
    """Open the conversation with one person in one hospital; its room is created at the first use.

    The answer is `chatRoomJoined` with the latest messages, then each unread message as `newMessage`. From
    then on this connection gets the room's messages as `newMessage`, those of rooms that it has not opened as
    `notification`.
    """

    type = "joinChatRoom"
    receiver_id: Id
    hospital_id: Id


class SendMessage(Request):
    """Send a message of at most 8,000 characters to one person in one hospital.

    The `ack` has its `messageId`, `chatRoomId` and `timestamp`; both sides get `newMessage`. A message sent
    again with the same `clientMessageId` is stored once and gets the same `ack`. A `location` message
    without `location` carries the sender's last position, if that is fresh.
    """

    type = "sendMessage"
    receiver_id: Id
    hospital_id: Id
    message: Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARACTERS)] = ""
    message_type: Literal["text", "image", "file", "audio", "video", "location"] = "text"
    reply_to: OptionalId = None
    attachments: Annotated[list[Attached] | None, Field(max_length=20)] = None
    location: Place | None = None
    priority: Literal["normal", "urgent"] = "normal"

    @model_validator(mode="after")
    def _must_have_content(self) -> Self:
        is_location = self.message_type == MessageType.LOCATION
        if not has_visible(self.message) and not self.attachments and not self.location and not is_location:
            raise ValidationFailed("message: is empty", field="message", reason="is empty")
        if self.attachments and _sent_bytes(self.attachments) > MAX_MESSAGE_BYTES:
            reason = "is longer than a frame when it is sent"
            raise ValidationFailed(f"attachments: {reason}", field="attachments", reason=reason)
        return self


class MarkAsRead(Request):
    """Mark a message that you received as read; with `upTo: true` also all earlier ones of its room.

    Send it when the user has seen the message. The sender gets `messageRead` for each. Marking one twice, or
    one of your own, changes nothing and is acknowledged.
    """

    type = "markAsRead"
    message_id: Id
    chat_room_id: OptionalId = None
    up_to: bool = False


class Typing(Request):
    """Show the other side that you are typing, or have stopped (`isTyping: false`).

    Send it every few seconds while the user types: the other side gets `typing`, which ends by itself
    after a while and when the message is sent. There is no answer.
    """

    type = "typing"
    no_reply = True
    receiver_id: Id
    hospital_id: Id
    is_typing: bool = True


class DeleteMessage(Request):
    """Delete one of your own messages; an admin of the hospital may delete any, with a `reason`.

    Both sides get `messageDeleted`, and the history has the message without its content. The original is
    kept for the audit.
    """

    type = "deleteMessage"
    message_id: Id
    chat_room_id: OptionalId = None
    reason: Annotated[str | None, StringConstraints(max_length=500)] = None


class EditMessage(Request):
    """Replace the text of one of your own messages, within 15 minutes.

    Both sides get `messageEdited`; the old text is kept for the audit. `error` FORBIDDEN for a message of
    somebody else, INVALID_TRANSITION after the 15 minutes or once it is deleted.
    """

    type = "editMessage"
    message_id: Id
    message: Annotated[
        str,
        StringConstraints(pattern=r"\S", max_length=MAX_TEXT_CHARACTERS),
        AfterValidator(must_be_visible),
    ]


class GetMessages(Request):
    """Read a page of a room's messages: the latest, or those `before` or `after` a messageId.

    The answer is `messageHistory`, oldest first. While it has `hasMore`, ask again with its `nextCursor` in
    `before` (or in `after`, where you read forward).
    """

    type = "getMessages"
    long_answer = True
    chat_room_id: Id
    before: OptionalId = None
    after: OptionalId = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50


# Events


class ChatMessage(Shape):
    """A message as both sides get it; of a deleted one without its content."""

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
        """Return the event about a message, which is loaded with its `room` and `sender`."""
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
            **message.visible_content(),
        )


class Peer(Shape):
    """The other side of a conversation."""

    user_id: str
    name: str
    role: str
    online: bool


class Page(Shape):
    """Messages, oldest first, and the cursor of the next page. Very long messages make a page shorter."""

    messages: list[ChatMessage]
    next_cursor: str | None
    has_more: bool


class OpenedRoom(Page):
    """The latest page of a room, its other side, and how many of its messages are unread."""

    unread_count: int
    peer: Peer


class ChatRoomJoined(Event):
    """Answers `joinChatRoom`: the room's latest messages, its other side and the number of unread ones."""

    type = "chatRoomJoined"
    chat_room_id: str
    receiver_id: str
    hospital_id: str
    data: OpenedRoom


class MessageHistory(Event):
    """Answers `getMessages` with one page of messages, oldest first."""

    type = "messageHistory"
    chat_room_id: str
    data: Page


class _AboutMessage(Durable):
    """An event about a message, rebuilt from the message's row."""

    loaded_with: ClassVar[tuple[str | None, ...]] = (None,)  # what `details` reads beside the message
    message_id: str
    chat_room_id: str

    def subject(self) -> str:
        return self.message_id

    def topic(self) -> str:
        return self.chat_room_id

    @classmethod
    def of(cls, message: Message) -> Self:
        return cls(message_id=message.message_id, chat_room_id=message.room_id, **cls.details(message))

    @classmethod
    def details(cls, message: Message) -> dict[str, Any]:
        """Return the fields of the event besides the ids of message and room."""
        raise NotImplementedError

    @classmethod
    def rebuild(cls, subjects: Iterable[str]) -> dict[str, Durable]:
        found = Message.objects.select_related(*cls.loaded_with).filter(message_id__in=subjects)
        return {message.message_id: cls.of(message) for message in found}


class NewMessage(_AboutMessage):
    """A message in one of your rooms, sent by the other side or by yourself on any device.

    Keep it by its `messageId`: one that is unread comes again after `joinChatRoom`. Send `markAsRead` when
    the user has read it.
    """

    type = "newMessage"
    loaded_with = ("room", "sender")
    flattened = True
    data: ChatMessage

    def author(self) -> str:
        return self.data.sender_id

    def push_category(self) -> str:
        return "message"

    @classmethod
    def details(cls, message: Message) -> dict[str, Any]:
        return {"data": ChatMessage.of(message)}


class MessageDelivered(_AboutMessage):
    """A message of yours has reached a device of the receiver: show it as delivered."""

    type = "messageDelivered"
    user_id: str
    delivered_at: datetime | None

    @classmethod
    def details(cls, message: Message) -> dict[str, Any]:
        return {"user_id": message.receiver_id, "delivered_at": message.delivered_at}


class MessageRead(_AboutMessage):
    """The receiver has read a message of yours: show it as read."""

    type = "messageRead"
    reader_id: str
    read_at: datetime | None

    @classmethod
    def details(cls, message: Message) -> dict[str, Any]:
        return {"reader_id": message.receiver_id, "read_at": message.read_at}


class MessageEdited(_AboutMessage):
    """The sender has replaced the text of a message: show `data` in its place."""

    type = "messageEdited"
    loaded_with = ("room", "sender")
    data: ChatMessage

    @classmethod
    def details(cls, message: Message) -> dict[str, Any]:
        return {"data": ChatMessage.of(message)}


class MessageDeleted(_AboutMessage):
    """A message was deleted: show it as deleted, without its content."""

    type = "messageDeleted"
    deleted_by: str | None
    deleted_at: datetime | None

    @classmethod
    def details(cls, message: Message) -> dict[str, Any]:
        return {"deleted_by": message.deleted_by_id, "deleted_at": message.deleted_at}


class TypingShown(Event):
    """The other side of a room is typing, or has stopped. Hide it `expiresIn` seconds after the last one."""

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
    """A message in a room that this connection has not opened, while it has opened another.

    It comes instead of `newMessage`, with the same `seq`; `data` is the message.
    """

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
