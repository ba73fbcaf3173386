"""The hot lane of the chat: all messages that waited are written in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from chat.messages import NewMessage, Place, SendMessage
from chat.models import ChatRoom, Message, MessageType
from hplus import errors
from hplus.accounts.actions import must_be_counterpart
from hplus.accounts.models import User
from hplus.protocol import wire
from hplus.realtime import groups
from hplus.realtime.actions import Command, Result, action, publish
from hplus.realtime.execution import bulk_insert
from hplus.realtime.models import Contact
from hplus.realtime.whereabouts import own_fixes

Outcome = Result | errors.Refusal
RoomKey = tuple[str, str, str]  # hospitalId and the two userIds, as ChatRoom.key
Rooms = dict[RoomKey, ChatRoom]


def fingerprint_of(request: SendMessage) -> str:
    """Tells a repetition from another message under the same clientMessageId; blank without one."""
    if not request.client_message_id:
        return ""
    return wire.fingerprint(
        request.model_dump(exclude={"request_id", "client_message_id", "client_timestamp"})
    )


@dataclass
class _Draft:
    """A wish on its way to a row."""

    user: User
    request: SendMessage
    fingerprint: str
    outcome: Outcome | None = None
    room: ChatRoom | None = None

    @classmethod
    def of(cls, command: Command) -> _Draft:
        assert isinstance(command.request, SendMessage)
        return cls(command.user, command.request, fingerprint_of(command.request))

    @property
    def once(self) -> tuple[str, str] | None:
        """What makes a repetition of it: sender and clientMessageId."""
        return (self.user.pk, self.request.client_message_id) if self.request.client_message_id else None

    @property
    def means_here(self) -> bool:
        """Whether it says "here" without saying where."""
        return self.request.message_type == MessageType.LOCATION and self.request.location is None

    @property
    def room_key(self) -> RoomKey:
        return (self.request.hospital_id, *ChatRoom.pair(self.user.pk, self.request.receiver_id))


@action
def send_all(commands: list[Command]) -> list[Outcome]:
    """Each message stored once, or its refusal: UserNotFound, HospitalNotFound, HospitalMismatch,
    Forbidden, MessageNotFound (an unknown replyTo), IdempotencyConflict."""
    drafts = [_Draft.of(command) for command in commands]
    rooms = _locked_rooms({draft.room_key for draft in drafts})
    _judge(drafts, rooms)
    _find_rooms([draft for draft in drafts if draft.outcome is None], rooms)
    _check_replies([draft for draft in drafts if draft.outcome is None])
    _store([draft for draft in drafts if draft.outcome is None])
    return [draft.outcome for draft in drafts if draft.outcome is not None]


def _judge(drafts: list[_Draft], rooms: Rooms) -> None:
    """Who repeats, gets the same answer again, whatever has changed since; who may not, is told so."""
    others = _others(drafts, rooms)
    stored = _stored(drafts)
    for draft in drafts:
        if draft.once in stored:
            draft.outcome = _repeated(draft, stored[draft.once])
            continue
        try:
            must_be_counterpart(draft.user, others.get(draft.request.receiver_id), draft.request.hospital_id)
        except errors.Refusal as refusal:
            draft.outcome = refusal


def _others(drafts: list[_Draft], rooms: Rooms) -> dict[str, User]:
    """The other sides; who has a room here already came with it."""
    others = {user.pk: user for room in rooms.values() for user in (room.first, room.second)}
    if unknown := {draft.request.receiver_id for draft in drafts} - others.keys():
        others |= User.objects.in_bulk(unknown)
    return others


def _stored(drafts: list[_Draft]) -> dict[Any, Message]:
    """What is there already under these clientMessageIds."""
    given = {draft.once for draft in drafts if draft.once}
    if not given:
        return {}
    found = Message.objects.filter(
        sender__in={sender for sender, _ in given},
        client_message_id__in={word for _, word in given},
    )
    return {(message.sender_id, message.client_message_id): message for message in found}


def _repeated(draft: _Draft, message: Message) -> Outcome:
    if message.fingerprint != draft.fingerprint:
        return errors.IdempotencyConflict(field="clientMessageId")
    return Result(ack_data=_made(message), is_duplicate=True)


def _find_rooms(drafts: list[_Draft], rooms: Rooms) -> None:
    """The room of each draft; one that is not there yet is made."""
    if missing := sorted({draft.room_key for draft in drafts} - rooms.keys()):
        ChatRoom.objects.bulk_create(
            [ChatRoom(hospital_id=h, first_id=one, second_id=two) for h, one, two in missing],
            ignore_conflicts=True,
        )
        rooms |= _locked_rooms(set(missing))
        for key in missing:
            Contact.share(rooms[key].pk, key[1], key[2])
    for draft in drafts:
        draft.room = rooms[draft.room_key]


def _locked_rooms(keys: set[RoomKey]) -> Rooms:
    """Those of these rooms that are there, with both their people.

    Locked: one deed at a time writes into a room, so that ids are in the order in which both sides hear it.
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
    """One row for each, in the order they came; then both sides hear it, the sender first."""
    fresh: dict[Any, Message] = {}
    here = own_fixes(senders) if (senders := {d.user.pk for d in drafts if d.means_here}) else {}
    for draft in drafts:
        if draft.once and draft.once in fresh:  # the same one twice in one batch
            draft.outcome = _repeated(draft, fresh[draft.once])
            continue
        message = _row(draft, here.get(draft.user.pk) if draft.means_here else None)
        fresh[draft.once or message.message_id] = message
        draft.outcome = Result(ack_data=_made(message))
    for message in _inserted(fresh, drafts):
        publish(
            NewMessage.of(message),
            groups.person(message.sender_id),
            groups.person(message.receiver_id),
        )


def _inserted(fresh: dict[Any, Message], drafts: list[_Draft]) -> list[Message]:
    """The rows that are new. What another server has just stored under the same clientMessageId is not."""
    bulk_insert.insert(Message, map(bulk_insert.row_of, fresh.values()), ignore_conflicts=True)
    stored = _stored(drafts)
    theirs = {once for once, row in stored.items() if row.message_id != fresh[once].message_id}
    for draft in drafts:
        if draft.once in theirs:
            draft.outcome = _repeated(draft, stored[draft.once])
    return [message for once, message in fresh.items() if once not in theirs]


def _row(draft: _Draft, here: tuple[float, float] | None) -> Message:
    asked = draft.request
    place = Place(lat=here[0], lng=here[1]) if here else asked.location
    return Message(
        room=draft.room,
        sender=draft.user,
        receiver_id=asked.receiver_id,
        text=asked.message,
        message_type=asked.message_type,
        priority=asked.priority,
        reply_to=asked.reply_to,
        attachments=[item.model_dump(by_alias=True) for item in asked.attachments or []] or None,
        location=place.model_dump() if place else None,
        client_message_id=asked.client_message_id,
        client_timestamp=asked.client_timestamp,
        fingerprint=draft.fingerprint,
        sent_at=timezone.now(),
    )


def _made(message: Message) -> dict[str, Any]:
    return {
        "messageId": message.message_id,
        "chatRoomId": message.room_id,
        "timestamp": wire.rfc3339(message.sent_at),
    }
