"""Send messages: all that wait are stored in one transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from chat import first_contact
from chat.messages import NewMessage, Place, SendMessage
from chat.models import ChatRoom, Message, MessageType
from hplus import errors
from hplus.accounts.actions import must_be_counterpart
from hplus.accounts.models import User
from hplus.protocol import wire
from hplus.realtime import groups
from hplus.realtime.actions import Command, Result, action, publish
from hplus.realtime.execution import bulk_insert
from hplus.realtime.idempotency import Idempotency, Key
from hplus.realtime.whereabouts import fresh_positions

Outcome = Result | errors.Refusal
RoomKey = tuple[str, str, str]  # hospitalId and the two userIds, as ChatRoom.key
Rooms = dict[RoomKey, ChatRoom]


IDEMPOTENCY = Idempotency(Message, requester="sender")


@dataclass
class _Draft:
    """A `sendMessage` on its way to a row."""

    user: User
    request: SendMessage
    fingerprint: str
    outcome: Outcome | None = None
    room: ChatRoom | None = None
    receiver: User | None = None
    agrees: bool = True  # its two may hear of each other; judged where they have not agreed before

    @classmethod
    def of(cls, command: Command) -> _Draft:
        assert isinstance(command.request, SendMessage)
        return cls(command.user, command.request, IDEMPOTENCY.fingerprint(command.request))

    @property
    def idempotency_key(self) -> Key | None:
        """Sender and clientMessageId, where there is one: a second message under this key is a repetition."""
        return (self.user.pk, self.request.client_message_id) if self.request.client_message_id else None

    @property
    def needs_sender_position(self) -> bool:
        """Whether it is a location message without coordinates: the sender's latest fix is meant."""
        return self.request.message_type == MessageType.LOCATION and self.request.location is None

    @property
    def room_key(self) -> RoomKey:
        return (self.request.hospital_id, *ChatRoom.pair(self.user.pk, self.request.receiver_id))


@action
def send_all(commands: list[Command]) -> list[Outcome]:
    """Store and publish each message once, and return its result or its refusal.

    Refusals: UserNotFound, HospitalNotFound, HospitalMismatch, Forbidden, MessageNotFound (an unknown
    replyTo), IdempotencyConflict, RateLimited (first contacts).
    """
    drafts = [_Draft.of(command) for command in commands]
    rooms = _lock_rooms({draft.room_key for draft in drafts})
    _authorize(drafts, rooms)
    _get_or_create_rooms([draft for draft in drafts if draft.outcome is None], rooms)
    _check_replies([draft for draft in drafts if draft.outcome is None])
    _store([draft for draft in drafts if draft.outcome is None])
    return [draft.outcome for draft in drafts if draft.outcome is not None]


def _authorize(drafts: list[_Draft], rooms: Rooms) -> None:
    """Give a repetition its first result again, whatever has changed since; refuse what is not allowed."""
    receivers = _load_receivers(drafts, rooms)
    stored = _already_stored(drafts)
    for draft in drafts:
        if draft.idempotency_key in stored:
            draft.outcome = _duplicate_result(draft, stored[draft.idempotency_key])
            continue
        try:
            receiver = receivers.get(draft.request.receiver_id)
            draft.receiver = must_be_counterpart(draft.user, receiver, draft.request.hospital_id)
        except errors.Refusal as refusal:
            draft.outcome = refusal


def _load_receivers(drafts: list[_Draft], rooms: Rooms) -> dict[str, User]:
    """Users by id, with all receivers; the members of the rooms are loaded already."""
    receivers = {user.pk: user for room in rooms.values() for user in (room.first, room.second)}
    if unknown := {draft.request.receiver_id for draft in drafts} - receivers.keys():
        receivers |= User.objects.in_bulk(unknown)
    return receivers


def _already_stored(drafts: list[_Draft]) -> dict[Any, Message]:
    return IDEMPOTENCY.rows_by_key(draft.idempotency_key for draft in drafts if draft.idempotency_key)


def _duplicate_result(draft: _Draft, message: Message) -> Outcome:
    conflict = IDEMPOTENCY.conflict(message, draft.fingerprint)
    return conflict or Result(ack_data=_ack_data(message), is_duplicate=True)


def _get_or_create_rooms(drafts: list[_Draft], rooms: Rooms) -> None:
    """Set the room of each draft, create those that are missing, and note where a patient agrees."""
    _judge_agreement([draft for draft in drafts if not _has_agreed(rooms.get(draft.room_key))])
    opening = _first_of_each_room(draft for draft in drafts if draft.room_key not in rooms)
    if opening:
        ChatRoom.objects.bulk_create(
            [
                ChatRoom(hospital_id=h, first_id=one, second_id=two, opened_by=opening[h, one, two].user)
                for h, one, two in sorted(opening)
            ],
            ignore_conflicts=True,
        )
        rooms |= _lock_rooms(set(opening))
    first_contact.note_first_contacts(
        (draft.user, rooms[key])
        for key, draft in opening.items()
        if not draft.agrees and rooms[key].opened_by_id == draft.user.pk
    )
    for draft in drafts:
        draft.room = rooms.get(draft.room_key)
    agreed = {draft.room_key for draft in drafts if draft.agrees} & rooms.keys()
    if new := [rooms[key] for key in sorted(agreed) if rooms[key].agreed_at is None]:
        first_contact.agree(new)


def _has_agreed(room: ChatRoom | None) -> bool:
    return room is not None and room.agreed_at is not None


def _judge_agreement(drafts: list[_Draft]) -> None:
    pairs = [(draft.user, draft.receiver) for draft in drafts if draft.receiver is not None]
    agreeing = first_contact.agreeing(pairs)
    for draft in drafts:
        draft.agrees = (draft.user.pk, draft.request.receiver_id) in agreeing


def _first_of_each_room(drafts: Iterable[_Draft]) -> dict[RoomKey, _Draft]:
    """The draft that opens each new room; one of too many first contacts is refused."""
    first = list(drafts)
    approaches = first_contact.Approaches({draft.user for draft in first if not draft.agrees})
    opening: dict[RoomKey, _Draft] = {}
    for draft in first:
        try:
            if draft.room_key not in opening and not draft.agrees:
                approaches.note(draft.user)
            opening.setdefault(draft.room_key, draft)
        except errors.RateLimited as refusal:
            draft.outcome = refusal
    return opening


def _lock_rooms(keys: set[RoomKey]) -> Rooms:
    """Lock and return the rooms that exist, with both members.

    One transaction at a time writes into a room, so that messages have ids in the order of their delivery.
    """
    hospitals, firsts, seconds = ({key[i] for key in keys} for i in range(3))
    found = ChatRoom.objects.filter(hospital__in=hospitals, first__in=firsts, second__in=seconds)
    locked = found.select_related("first", "second").select_for_update(of=("self",), no_key=True)
    return {room.key: room for room in locked.order_by("pk") if room.key in keys}


def _check_replies(drafts: list[_Draft]) -> None:
    replies = {draft.request.reply_to for draft in drafts if draft.request.reply_to}
    if not replies:
        return
    known = set(Message.objects.filter(message_id__in=replies).values_list("message_id", "room_id"))
    for draft in drafts:
        assert draft.room is not None
        if draft.request.reply_to and (draft.request.reply_to, draft.room.pk) not in known:
            draft.outcome = errors.MessageNotFound("replyTo is no message of this room.", field="replyTo")


def _store(drafts: list[_Draft]) -> None:
    """Store one row each, in the order of arrival, and publish it to sender and receiver."""
    fresh: dict[Any, Message] = {}
    senders = {draft.user.pk for draft in drafts if draft.needs_sender_position}
    positions = fresh_positions(senders) if senders else {}
    for draft in drafts:
        if draft.idempotency_key and draft.idempotency_key in fresh:  # sent twice in one batch
            draft.outcome = _duplicate_result(draft, fresh[draft.idempotency_key])
            continue
        message = _to_row(draft, positions.get(draft.user.pk) if draft.needs_sender_position else None)
        fresh[draft.idempotency_key or message.message_id] = message
        draft.outcome = Result(ack_data=_ack_data(message))
    for message in _insert(fresh, drafts):
        publish(
            NewMessage.of(message),
            groups.person(message.sender_id),
            groups.person(message.receiver_id),
        )


def _insert(fresh: dict[Any, Message], drafts: list[_Draft]) -> list[Message]:
    """Insert the rows and return the new ones: another server may have stored the same key meanwhile."""
    bulk_insert.insert(Message, map(bulk_insert.row_of, fresh.values()), ignore_conflicts=True)
    stored = _already_stored(drafts)
    theirs = {key for key, row in stored.items() if row.message_id != fresh[key].message_id}
    for draft in drafts:
        if draft.idempotency_key in theirs:
            draft.outcome = _duplicate_result(draft, stored[draft.idempotency_key])
    return [message for key, message in fresh.items() if key not in theirs]


def _to_row(draft: _Draft, position: tuple[float, float] | None) -> Message:
    request = draft.request
    place = Place(lat=position[0], lng=position[1]) if position else request.location
    return Message(
        room=draft.room,
        sender=draft.user,
        receiver_id=request.receiver_id,
        text=request.message,
        message_type=request.message_type,
        priority=request.priority,
        reply_to=request.reply_to,
        attachments=[item.model_dump(by_alias=True) for item in request.attachments or []] or None,
        location=place.model_dump() if place else None,
        client_message_id=request.client_message_id,
        client_timestamp=request.client_timestamp,
        fingerprint=draft.fingerprint,
        sent_at=timezone.now(),
    )


def _ack_data(message: Message) -> dict[str, Any]:
    return {
        "messageId": message.message_id,
        "chatRoomId": message.room_id,
        "timestamp": wire.rfc3339(message.sent_at),
    }
