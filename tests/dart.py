"""What the server sends, read as strictly as the Dart of the integration guide reads it.

`jsonDecode` gives String, bool, int, double, List, Map or null; to put the wrong one into a typed
field throws, and the guide's client then drops the frame. So here it throws as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

Json = dict[str, Any]


class TypeMismatch(AssertionError):
    """Dart: type 'Null' is not a subtype of type 'String'."""


def _is(value: Any, kind: type | tuple[type, ...], wanted: str, key: str) -> Any:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if type(value) not in kinds:  # an exact one: Python's bool is an int, Dart's is not
        raise TypeMismatch(f"{key}: {value!r} is not a subtype of {wanted}")
    return value


def string(json: Json, key: str) -> str:
    return str(_is(json.get(key), str, "String", key))


def optional_string(json: Json, key: str) -> str | None:
    return None if json.get(key) is None else string(json, key)


def boolean(json: Json, key: str) -> bool:
    return bool(_is(json.get(key), bool, "bool", key))


def integer(json: Json, key: str) -> int:
    return int(_is(json.get(key), int, "int", key))


def number(json: Json, key: str) -> float:
    return float(_is(json.get(key), (int, float), "num", key))


def double(json: Json, key: str) -> float:
    return float(_is(json.get(key), float, "double", key))


def mapping(json: Json, key: str) -> Json:
    value: Json = _is(json.get(key), dict, "Map<String, dynamic>", key)
    return value


def listing(json: Json, key: str) -> list[Any]:
    value: list[Any] = _is(json.get(key), list, "List<dynamic>", key)
    return value


def moment(json: Json, key: str) -> datetime:
    """A time of the server: a String that Dart's `DateTime.parse` takes, in UTC."""
    text = string(json, key)
    if not text.endswith("Z"):
        raise TypeMismatch(f"{key}: {text} is not UTC")
    return datetime.fromisoformat(text)


def optional_moment(json: Json, key: str) -> datetime | None:
    return None if json.get(key) is None else moment(json, key)


# The guide's data models


@dataclass(frozen=True)
class MessageAttachment:
    type: str
    url: str
    name: str
    size: int

    @classmethod
    def from_json(cls, json: Any) -> Self:
        _is(json, dict, "Map<String, dynamic>", "attachment")
        return cls(string(json, "type"), string(json, "url"), string(json, "name"), integer(json, "size"))


@dataclass(frozen=True)
class ChatMessage:
    message_id: str
    sender_id: str
    receiver_id: str
    hospital_id: str
    message: str
    message_type: str
    timestamp: str
    is_read: bool
    is_delivered: bool
    reply_to: str | None
    attachments: list[MessageAttachment] | None

    @classmethod
    def from_json(cls, json: Json) -> Self:
        return cls(
            message_id=string(json, "messageId"),
            sender_id=string(json, "senderId"),
            receiver_id=string(json, "receiverId"),
            hospital_id=string(json, "hospitalId"),
            message=string(json, "message"),
            message_type=string(json, "messageType"),
            timestamp=string(json, "timestamp"),
            is_read=False if json.get("isRead") is None else boolean(json, "isRead"),
            is_delivered=False if json.get("isDelivered") is None else boolean(json, "isDelivered"),
            reply_to=optional_string(json, "replyTo"),
            attachments=None
            if json.get("attachments") is None
            else [MessageAttachment.from_json(item) for item in listing(json, "attachments")],
        )


def chat_message(json: Json) -> ChatMessage:
    """The guide's eleven fields, and what the contract adds to them."""
    read = ChatMessage.from_json(json)
    moment(json, "timestamp")
    string(json, "chatRoomId")
    string(json, "senderName")
    string(json, "senderRole")
    assert string(json, "priority") in ("normal", "urgent")
    for key in ("clientMessageId", "clientTimestamp"):
        optional_string(json, key)
    for key in ("editedAt", "deletedAt"):
        optional_moment(json, key)
    if json["location"] is not None:
        double(mapping(json, "location"), "lat")
        double(mapping(json, "location"), "lng")
    return read


# The frames


def _durable(json: Json) -> None:
    integer(json, "seq")
    string(json, "eventId")


def _connection_established(json: Json) -> None:
    for key in ("connectionId", "userId", "role", "epoch"):
        string(json, key)
    optional_string(json, "hospitalId")
    moment(json, "timestamp")
    for key in ("protocolVersion", "lastSeq", "heartbeatInterval"):
        integer(json, key)
    boolean(json, "recovered")
    limits = mapping(json, "limits")
    integer(limits, "maxMessageBytes")
    integer(limits, "messagesPerMinute")
    data = mapping(json, "data")
    for unread in listing(data, "unread"):
        string(unread, "chatRoomId")
        integer(unread, "count")
    listing(data, "activeEmergencies")
    assert data["activeCall"] is None or mapping(data, "activeCall")


def _new_message(json: Json) -> None:
    """Section 5 of the guide reads `data`, section 10 the whole frame: both must find the same."""
    inner, whole = chat_message(mapping(json, "data")), chat_message(json)
    if inner != whole:
        raise TypeMismatch(f"{inner} under data, {whole} at the top level")
    _durable(json)


def _joined(json: Json) -> None:
    for key in ("chatRoomId", "receiverId", "hospitalId"):
        string(json, key)
    data = _page(json)
    integer(data, "unreadCount")
    peer = mapping(data, "peer")
    for key in ("userId", "name", "role"):
        string(peer, key)
    boolean(peer, "online")


def _page(json: Json) -> Json:
    data = mapping(json, "data")
    for message in listing(data, "messages"):
        chat_message(message)
    optional_string(data, "nextCursor")
    boolean(data, "hasMore")
    return data


def _receipt(who: str, when: str) -> Callable[[Json], None]:
    def read(json: Json) -> None:
        for key in ("messageId", "chatRoomId", who):
            string(json, key)
        moment(json, when)
        _durable(json)

    return read


def _edited(json: Json) -> None:
    string(json, "messageId")
    chat_message(mapping(json, "data"))
    _durable(json)


def _typing(json: Json) -> None:
    for key in ("userId", "senderId", "receiverId", "hospitalId", "chatRoomId"):
        string(json, key)
    boolean(json, "isTyping")
    integer(json, "expiresIn")
    assert "data" not in json


def _notification(json: Json) -> None:
    for key in ("notificationId", "category", "title", "body", "priority"):
        string(json, key)
    moment(json, "timestamp")
    data = mapping(json, "data")
    if json["category"] == "message":
        chat_message(data)
    _durable(json)


def _error(json: Json) -> None:
    """`errorData['message'] ?? 'Unknown error'` goes into a dialog, `code` into a switch."""
    string(json, "code")
    string(json, "message")
    optional_string(json, "requestType")
    optional_string(json, "requestId")
    details = mapping(json, "details")
    optional_string(details, "field")
    moment(json, "timestamp")
    if "retryAfter" in json:
        number(json, "retryAfter")


def _presence(json: Json) -> None:
    for key in ("userId", "role", "status"):
        string(json, key)
    optional_string(json, "hospitalId")
    moment(json, "lastSeen")
    moment(json, "timestamp")


def _ack(json: Json) -> None:
    string(json, "requestType")
    optional_string(json, "requestId")
    optional_string(json, "clientMessageId")
    assert string(json, "status") in ("ok", "duplicate")
    assert json["data"] is None or mapping(json, "data")


def _heartbeat(json: Json) -> None:
    optional_string(json, "timestamp")
    moment(json, "serverTime")


def _login_success(json: Json) -> None:
    string(json, "userId")
    string(json, "role")
    optional_string(json, "hospitalId")
    optional_moment(json, "expiresAt")


def _hospital_joined(json: Json) -> None:
    string(json, "hospitalId")
    string(mapping(json, "data"), "name")
    boolean(mapping(json, "data"), "onDiversion")


def _sync_complete(json: Json) -> None:
    for key in ("from", "to"):
        integer(json, key)
    for key in ("recovered", "hasMore"):
        boolean(json, key)
    string(json, "epoch")


FRAMES: dict[str, Callable[[Json], Any]] = {
    "connection_established": _connection_established,
    "heartbeat": _heartbeat,
    "loginSuccess": _login_success,
    "logoutSuccess": lambda json: None,
    "hospitalJoined": _hospital_joined,
    "userOnline": _presence,
    "userOffline": _presence,
    "syncComplete": _sync_complete,
    "ack": _ack,
    "error": _error,
    "chatRoomJoined": _joined,
    "messageHistory": lambda json: (string(json, "chatRoomId"), _page(json)),
    "newMessage": _new_message,
    "messageDelivered": _receipt("userId", "deliveredAt"),
    "messageRead": _receipt("readerId", "readAt"),
    "messageEdited": _edited,
    "messageDeleted": _receipt("deletedBy", "deletedAt"),
    "typing": _typing,
    "notification": _notification,
}


def read(json: Json) -> None:
    """Raises where a client of the guide would have lost this frame."""
    type_ = string(json, "type")
    if type_ not in FRAMES:
        raise TypeMismatch(f"the guide's client was sent a {type_}, which nobody has described")
    try:
        FRAMES[type_](json)
    except (AssertionError, KeyError) as lost:
        raise TypeMismatch(f"{type_}: {lost!r} in {json}") from None
