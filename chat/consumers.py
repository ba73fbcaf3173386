"""The ears of the chat: one line for each word."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial
from typing import Any

from django.conf import settings

from chat import actions, messages, receipts
from chat.fast_receipts import FastDelivered
from chat.fast_sending import FastSending
from chat.message_notification import as_notice
from chat.sending import send_all
from hplus.realtime.actions import Result
from hplus.realtime.connection.client import Client
from hplus.realtime.consumers import DomainConsumer, handles, in_batches
from hplus.realtime.publishing.envelopes import Envelope

FAST_SENDING, FAST_DELIVERED = FastSending(), FastDelivered()
TYPING_AGAIN_SECONDS = 3  # a key a second is not news


class ChatConsumer(DomainConsumer):
    """What one socket says and hears of conversations; it knows which rooms its screen has open."""

    def __init__(self, client: Client | None = None) -> None:
        super().__init__(client)
        self.rooms: dict[tuple[str, str], str] = {}  # (other side, hospital) → chatRoomId
        self.known: dict[tuple[str, str], str] = {}  # also those only typed into
        self._joining = threading.Lock()
        self._showing = threading.Lock()
        self.typing: dict[tuple[str, str], float] = {}  # since when the other side sees us writing

    @handles(messages.JoinChatRoom, buffers_delivery=True)
    def join(self, request: messages.JoinChatRoom) -> Result:
        with self._joining:
            return self._entered(request, actions.join(self.user, request))

    def _is_elsewhere(self, request: messages.SendMessage) -> bool:
        return (request.receiver_id, request.hospital_id) not in self.rooms

    @in_batches(messages.SendMessage, send_all, fast=FAST_SENDING, buffers_delivery=_is_elsewhere)
    def send(self, request: messages.SendMessage, result: Result) -> Result:
        pair = (request.receiver_id, request.hospital_id)
        was_typing, is_first = pair in self.typing, pair not in self.rooms
        result = self._entered(request, result)
        if not was_typing and not is_first:
            return result
        return replace(result, after_reply=lambda: self._after_sending(pair, is_first))

    def _after_sending(self, pair: tuple[str, str], is_first: bool) -> Result | None:
        """A message ends the typing, and the first one into a room joins it."""
        self._show(pair, is_typing=False)
        return Result(events=actions.unread_in(self.user, self.rooms[pair])) if is_first else None

    def _entered(self, request: messages.JoinChatRoom | messages.SendMessage, result: Result) -> Result:
        pair = (request.receiver_id, request.hospital_id)
        self.rooms[pair] = self.known[pair] = (result.ack_data or {})["chatRoomId"]
        return result

    @in_batches(messages.MarkAsRead, receipts.read_all)
    def mark_as_read(self, request: messages.MarkAsRead, result: Result) -> Result:
        return result

    @handles(messages.EditMessage)
    def edit(self, request: messages.EditMessage) -> Result:
        return actions.edit(self.user, request)

    @handles(messages.DeleteMessage)
    def delete(self, request: messages.DeleteMessage) -> Result:
        return actions.delete(self.user, request)

    @handles(messages.GetMessages)
    def history(self, request: messages.GetMessages) -> Result:
        return actions.history(self.user, request)

    # Typing

    @handles(messages.Typing)
    def show_typing(self, request: messages.Typing) -> None:
        pair = (request.receiver_id, request.hospital_id)
        if pair not in self.known:
            self.known[pair] = actions.open_room(self.user, *pair).pk
        if request.is_typing and self._is_shown(pair, within_seconds=TYPING_AGAIN_SECONDS):
            return
        self._show(pair, request.is_typing)

    def _is_shown(self, pair: tuple[str, str], within_seconds: float) -> bool:
        return time.monotonic() - self.typing.get(pair, float("-inf")) < within_seconds

    def _show(self, pair: tuple[str, str], is_typing: bool) -> None:
        """One at a time, so that what is told last is what was said last."""
        with self._showing:
            if is_typing:
                self.typing[pair] = time.monotonic()
                self.client.later(settings.TYPING_SECONDS, lambda: self._stop_if_idle(pair))
            elif self.typing.pop(pair, None) is None:
                return
            actions.show_typing(self.user, *pair, self.known[pair], is_typing)

    def _stop_if_idle(self, pair: tuple[str, str]) -> None:
        if pair in self.typing and not self._is_shown(pair, within_seconds=settings.TYPING_SECONDS):
            self._show(pair, is_typing=False)

    def _stop_after(self, message: Envelope) -> None:
        """A message ends the typing, whichever of one's screens it was sent from."""
        for pair, since in list(self.typing.items()):
            if self.known[pair] == message.topic:
                self.client.later(0, partial(self._stop_since, pair, since))

    def _stop_since(self, pair: tuple[str, str], since: float) -> None:
        """Not where the next message has been begun meanwhile."""
        if self.typing.get(pair) == since:
            self._show(pair, is_typing=False)

    def on_disconnect(self) -> None:
        for pair in list(self.typing):
            self._show(pair, is_typing=False)

    # The handshake and what arrives

    def snapshot(self) -> dict[str, Any]:
        return {"unread": actions.unread_counts(self.user)}

    def on_settled(self) -> Result | None:
        """Not while a room is being joined, whose unread messages come oldest first."""
        with self._joining:
            return None if self.rooms else Result(events=actions.undelivered(self.user))

    def on_ack(self, seq: int) -> None:
        receipts.delivered_up_to(self.user, seq)

    def on_event(self, envelope: Envelope) -> Envelope | None:
        """A message of another conversation never shows in this screen's."""
        if envelope.event_type == messages.NewMessage.type and envelope.author == self.user.pk:
            self._stop_after(envelope)
        is_elsewhere = envelope.topic not in self.rooms.values()
        if envelope.event_type == messages.TypingShown.type and is_elsewhere:
            return None
        if envelope.event_type == messages.NewMessage.type and self.rooms and is_elsewhere:
            return as_notice(envelope)
        return envelope

    def on_delivered(self, envelope: Envelope) -> None:
        if envelope.event_type == messages.NewMessage.type and envelope.author != self.user.pk:
            marks = self.client.hub.marks(
                FAST_DELIVERED, receipts.deliver_all, settings.RECEIPT_WRITE_SECONDS
            )
            marks.add((self.user.pk, envelope.subject))
