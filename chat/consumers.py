"""The chat on one connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from django.conf import settings

from chat import actions, arrivals, messages, receipts
from chat.fast_receipts import FastDelivered
from chat.fast_sending import FastSending
from chat.message_notification import as_notification
from chat.sending import send_all
from hplus.realtime.actions import Result
from hplus.realtime.connection.client import Client
from hplus.realtime.consumers import DomainConsumer, handles, in_batches
from hplus.realtime.execution.db_threads import in_db_thread
from hplus.realtime.publishing.envelopes import Envelope

FAST_SENDING, FAST_DELIVERED = FastSending(), FastDelivered()
TYPING_REPEAT_SECONDS = 3  # the other side is told no more often that typing goes on


class ChatConsumer(DomainConsumer):
    """The conversations of one connection; it knows which rooms its screen has open."""

    watched_events = (messages.NewMessage, messages.TypingShown)

    def __init__(self, client: Client | None = None) -> None:
        super().__init__(client)
        self.rooms: dict[tuple[str, str], str] = {}  # (other side, hospital) → chatRoomId
        self.known: dict[tuple[str, str], str] = {}  # also those only typed into
        self._join_lock = threading.Lock()
        self._typing_lock = threading.Lock()
        self.typing: dict[tuple[str, str], float] = {}  # when the other side was last told that we type

    @handles(messages.JoinChatRoom, buffers_delivery=True)
    def join(self, request: messages.JoinChatRoom) -> Result:
        with self._join_lock:
            return self._only_new(self._remember_room(request, actions.join(self.user, request)))

    def _only_new(self, result: Result) -> Result:
        """Leave out what this client has from a connection that this one goes on with, on each page."""
        had_up_to, read = self.client.had_up_to, result.next_page
        events = [
            event
            for event in result.events
            if not isinstance(event, Envelope) or not 0 < (event.seq or 0) <= had_up_to
        ]
        if read is None:
            return replace(result, events=events)
        return replace(result, events=events, next_page=lambda: (page := read()) and self._only_new(page))

    def _is_another_room(self, request: messages.SendMessage) -> bool:
        return (request.receiver_id, request.hospital_id) not in self.rooms

    @in_batches(messages.SendMessage, send_all, fast=FAST_SENDING, buffers_delivery=_is_another_room)
    def send(self, request: messages.SendMessage, result: Result) -> Result:
        pair = (request.receiver_id, request.hospital_id)
        was_typing, is_first = pair in self.typing, pair not in self.rooms
        result = self._remember_room(request, result)
        if not was_typing and not is_first:
            return result
        return replace(result, after_reply=partial(self._after_sending, pair, was_typing, is_first))

    async def _after_sending(self, pair: tuple[str, str], was_typing: bool, is_first: bool) -> Result | None:
        """End the typing; the first message into a room also joins the room."""
        if was_typing:
            await in_db_thread(partial(self._publish_typing, pair, is_typing=False))
        if not is_first:
            return None
        unread = self.client.hub.batches.of(actions.unread_in_each)
        return self._only_new(await unread.submit((self.user, self.rooms[pair])))

    def _remember_room(self, request: messages.JoinChatRoom | messages.SendMessage, result: Result) -> Result:
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
    def get_messages(self, request: messages.GetMessages) -> Result:
        return actions.get_messages(self.user, request)

    # Typing

    @handles(messages.Typing)
    def show_typing(self, request: messages.Typing) -> None:
        pair = (request.receiver_id, request.hospital_id)
        if pair not in self.known:
            self.known[pair] = actions.open_room(self.user, *pair).pk
        if request.is_typing and self._was_shown(pair, within_seconds=TYPING_REPEAT_SECONDS):
            return
        self._publish_typing(pair, request.is_typing)

    def _was_shown(self, pair: tuple[str, str], within_seconds: float) -> bool:
        return time.monotonic() - self.typing.get(pair, float("-inf")) < within_seconds

    def _publish_typing(self, pair: tuple[str, str], is_typing: bool) -> None:
        """Publish the typing state; under a lock, so that the last one published is the last one set."""
        with self._typing_lock:
            if is_typing:
                self.typing[pair] = time.monotonic()
                self.client.later(settings.TYPING_SECONDS, lambda: self._stop_typing_if_idle(pair))
            elif self.typing.pop(pair, None) is None:
                return
            actions.show_typing(self.user, *pair, self.known[pair], is_typing)

    def _stop_typing_if_idle(self, pair: tuple[str, str]) -> None:
        if pair in self.typing and not self._was_shown(pair, within_seconds=settings.TYPING_SECONDS):
            self._publish_typing(pair, is_typing=False)

    def _stop_typing_after(self, message: Envelope) -> None:
        """End the typing after a message of this user, sent from any of the user's connections."""
        for pair, since in list(self.typing.items()):
            if self.known[pair] == message.topic:
                self.client.later(0, partial(self._stop_typing_since, pair, since))

    def _stop_typing_since(self, pair: tuple[str, str], since: float) -> None:
        """End the typing that began then; the next message may have been begun meanwhile."""
        if self.typing.get(pair) == since:
            self._publish_typing(pair, is_typing=False)

    def on_disconnect(self) -> None:
        for pair in list(self.typing):
            self._publish_typing(pair, is_typing=False)

    # The handshake and what arrives

    arrival_probe, settled_probe = arrivals.UNREAD, arrivals.UNDELIVERED

    @classmethod
    def snapshot_all(cls, consumers: Sequence[ChatConsumer]) -> list[dict[str, Any]]:
        counts = arrivals.unread_counts([consumer.user for consumer in consumers])
        return [{"unread": counts[consumer.user.pk]} for consumer in consumers]

    @classmethod
    def on_settled_all(cls, consumers: Sequence[ChatConsumer]) -> list[Result | None]:
        """Return what no device has shown yet; not where a room is open, whose messages come by joining."""
        waiting = [consumer.user for consumer in consumers if not consumer.rooms]
        found = arrivals.undelivered(waiting) if waiting else {}
        return [None if c.rooms else c._until_a_room_is_open(found[c.user.pk]) for c in consumers]

    def _until_a_room_is_open(self, result: Result | None) -> Result | None:
        """Return a page whose next one is read only where no room has been opened until then."""
        if result is None or (read := result.next_page) is None:
            return result
        return replace(result, next_page=lambda: None if self.rooms else self._until_a_room_is_open(read()))

    def is_settled(self) -> bool:
        return not self._join_lock.locked()

    @classmethod
    def on_ack_all(cls, acks: Sequence[tuple[ChatConsumer, int]]) -> None:
        receipts.deliver_all_up_to([(consumer.user.pk, seq) for consumer, seq in acks])

    def on_ack(self, seq: int) -> None:
        receipts.deliver_all_up_to([(self.user.pk, seq)])

    def on_event(self, envelope: Envelope) -> Envelope | None:
        """Turn a message of a room that is not open here into a notification; drop typing there."""
        if envelope.event_type == messages.NewMessage.type and envelope.author == self.client.user_id:
            self._stop_typing_after(envelope)
        is_elsewhere = envelope.topic not in self.rooms.values()
        if envelope.event_type == messages.TypingShown.type and is_elsewhere:
            return None
        if envelope.event_type == messages.NewMessage.type and self.rooms and is_elsewhere:
            return as_notification(envelope)
        return envelope

    def on_delivered(self, envelope: Envelope) -> None:
        if envelope.event_type == messages.NewMessage.type and envelope.author != self.client.user_id:
            marks = self.client.hub.batches.marks(
                FAST_DELIVERED, receipts.deliver_all, settings.RECEIPT_WRITE_SECONDS
            )
            marks.add((self.client.user_id, envelope.subject))
