"""The app of the integration guide: its WebSocketService, its screens, and its way of reading frames.

Nothing waits for `connection_established`, no slash stands before `?`, optional fields are sent as
null, times are local and have no zone, and every frame is read as strictly as Dart does.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from tests import dart
from tests.phone import Frame, Phone
from tests.servers import Endpoint


def now() -> str:
    """`DateTime.now().toIso8601String()`: local time, no zone, six decimals."""
    return datetime.now().isoformat(timespec="microseconds")  # noqa: DTZ005 the app does not know better


class GuideApp(Phone):
    """One socket of the app, connected as `_buildConnectionUri` says."""

    def __init__(
        self, server: Endpoint, user_id: str, role: str, hospital_id: str | None = None, **more: Any
    ):
        url = f"ws://127.0.0.1:{server.port}"
        super().__init__(url, userId=user_id, role=role, hospitalId=hospital_id, **more)
        self.unreadable: list[str] = []

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await super().__aexit__()
        assert not self.unreadable, self.unreadable[0]

    async def _note(self, frame: Frame) -> None:
        try:
            dart.read(frame)
        except AssertionError as lost:
            self.unreadable.append(str(lost))
        await super()._note(frame)

    # The functions of the guide, by their names there

    async def join_chat_room(self, receiver_id: str, hospital_id: str) -> None:
        await self.send("joinChatRoom", receiverId=receiver_id, hospitalId=hospital_id, timestamp=now())

    async def send_chat_message(
        self,
        receiver_id: str,
        hospital_id: str,
        message: str,
        message_type: str = "text",
        reply_to: str | None = None,
        attachments: list[dict[str, Any]] | None = None,
    ) -> None:
        optional = {"replyTo": reply_to, "attachments": attachments}
        await self.send(
            "sendMessage",
            receiverId=receiver_id,
            hospitalId=hospital_id,
            message=message,
            messageType=message_type,
            timestamp=now(),
            **{key: value for key, value in optional.items() if value is not None},
        )

    async def mark_message_as_read(self, message_id: str, chat_room_id: str | None = None) -> None:
        room = {} if chat_room_id is None else {"chatRoomId": chat_room_id}
        await self.send("markAsRead", messageId=message_id, **room, timestamp=now())

    async def send_typing_indicator(self, receiver_id: str, hospital_id: str, is_typing: bool) -> None:
        await self.send(
            "typing", receiverId=receiver_id, hospitalId=hospital_id, isTyping=is_typing, timestamp=now()
        )

    async def settle(self) -> None:
        """A question whose answer comes behind everything that was sent before it."""
        await self.send("getMessages", chatRoomId="none", requestId="settle")
        await self.expect("error", requestId="settle")
        self.history = [frame for frame in self.history if frame.get("requestId") != "settle"]


class ChatScreen(GuideApp):
    """The guide's ChatScreen: joins at once, shows what comes as `newMessage`, marks all of it as read."""

    def __init__(
        self,
        server: Endpoint,
        user_id: str,
        role: str,
        hospital_id: str | None,
        *,
        receiver_id: str,
        room_hospital_id: str = "hospital_001",
    ) -> None:
        super().__init__(server, user_id, role, hospital_id)
        self.receiver_id, self.room_hospital_id = receiver_id, room_hospital_id
        self.messages: list[dart.ChatMessage] = []

    async def __aenter__(self) -> Self:
        await self.open()
        await self.join_chat_room(self.receiver_id, self.room_hospital_id)
        return self

    async def _note(self, frame: Frame) -> None:
        await super()._note(frame)
        if frame["type"] == "newMessage":
            message = dart.ChatMessage.from_json(frame["data"])
            self.messages.append(message)
            await self.mark_message_as_read(message.message_id)

    async def say(self, text: str, **more: Any) -> None:
        await self.send_chat_message(self.receiver_id, self.room_hospital_id, text, **more)

    @property
    def shown(self) -> list[str]:
        return [message.message for message in self.messages]
