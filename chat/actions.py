"""Actions on conversations; the socket, REST, the admin site and commands call the same ones."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, OuterRef, Subquery
from django.utils import timezone

from chat import arrivals, attachments, first_contact, messages
from chat.models import ChatRoom, Message, Revision
from chat.sending import send_all
from hplus import errors
from hplus.accounts.actions import counterpart
from hplus.accounts.models import User
from hplus.audit.actions import record
from hplus.audit.models import Verb
from hplus.realtime import groups
from hplus.realtime.actions import READ_TOGETHER, Command, Result, action, publish
from hplus.realtime.hub.presence import online_among

JOINED_MESSAGES = 50
PAGE_CHARACTERS = 500_000  # a page is one frame, and a phone has to read it
ROOMS_LISTED = 200


def send(user: User, request: messages.SendMessage) -> Result:
    """Send one message outside a batch. Raises the refusals that `send_all` returns."""
    [outcome] = send_all([Command(user, request)])
    if isinstance(outcome, errors.Refusal):
        raise outcome
    return outcome


# Rooms


def open_room(user: User, other_id: str, hospital_id: str) -> ChatRoom:
    """Return the room of the two, created at the first use. Raises like `counterpart`, or RateLimited."""
    other = counterpart(user, other_id, hospital_id)
    first, second = ChatRoom.pair(user.pk, other.pk)
    pair = {"hospital_id": hospital_id, "first_id": first, "second_id": second}
    room = ChatRoom.objects.filter(**pair).first() or _make_room(user, other, pair)
    if room.agreed_at is None and first_contact.agrees(user, other):
        first_contact.agree([room])
        room.refresh_from_db(fields=["agreed_at"])
    return room


@transaction.atomic
def _make_room(user: User, other: User, pair: dict[str, str]) -> ChatRoom:
    is_approach = not first_contact.agrees(user, other)
    if is_approach:
        first_contact.Approaches([user]).note(user)
    room, is_new = ChatRoom.objects.get_or_create(**pair, defaults={"opened_by": user})
    if is_approach and is_new:
        first_contact.note_first_contacts([(user, room)])
    return room


def join(user: User, request: messages.JoinChatRoom) -> Result:
    """Open a room: its latest page, then each unread message as `newMessage`, oldest first.

    Raises what `counterpart` raises.
    """
    room = open_room(user, request.receiver_id, request.hospital_id)
    peer = User.objects.get(pk=request.receiver_id)
    unread = _unread_ids([(user, room.pk)])[user.pk, room.pk]
    page = _page(user, room, limit=JOINED_MESSAGES)
    opened = messages.OpenedRoom(
        **page.model_dump(),
        unread_count=len(unread),
        peer=_peer(peer, online_among({peer.pk}) if _shows_presence(room, peer) else set()),
    )
    joined = messages.ChatRoomJoined(
        chat_room_id=room.pk, receiver_id=peer.pk, hospital_id=room.hospital_id, data=opened
    )
    first = arrivals.messages_in_pages(user, unread)
    return replace(first, events=[joined, *first.events], ack_data={"chatRoomId": room.pk})


def find_room(user: User, chat_room_id: str) -> ChatRoom:
    """Return a room the user may read. Raises ChatRoomNotFound, also for a room of others."""
    return ChatRoom.objects.visible_to(user).find(chat_room_id, errors.ChatRoomNotFound())


def get_messages(user: User, request: messages.GetMessages) -> Result:
    """Return a page of a room; a reader who is no member of it is recorded in the audit.

    Raises ChatRoomNotFound, or MessageNotFound for an unknown `before` or `after`.
    """
    room = find_room(user, request.chat_room_id)
    page = _page(user, room, before=request.before, after=request.after, limit=request.limit)
    if not room.has_member(user):
        record(user, Verb.READ, room)
    history = messages.MessageHistory(chat_room_id=room.pk, data=page)
    return Result(events=[history], rows=len(page.messages))


def _page(
    user: User, room: ChatRoom, *, before: str | None = None, after: str | None = None, limit: int
) -> messages.Page:
    """Up to `limit` messages, oldest first: the latest, those before, or those after a message.

    Fewer where they hold more than PAGE_CHARACTERS.
    """
    found = Message.objects.filter(room=room).select_related("room", "sender")
    if room.has_member(user):
        found = found.since_move_of(user)
    if before:
        found = found.filter(id__lt=_row_id(room, before))
    if after:
        found = found.filter(id__gt=_row_id(room, after))
    rows = list(found.order_by("id" if after else "-id")[: limit + 1])
    fitting = min(limit, _count_fitting(rows))
    has_more, rows = len(rows) > fitting, rows[:fitting]
    ordered = rows if after else reversed(rows)
    return messages.Page(
        messages=[messages.ChatMessage.of(row) for row in ordered],
        next_cursor=rows[-1].message_id if has_more else None,
        has_more=has_more,
    )


def _count_fitting(rows: list[Message]) -> int:
    """How many of the messages fit into a page; at least one."""
    lengths = accumulate(len(row.text) + len(json.dumps(row.attachments)) for row in rows)
    return max(1, sum(length <= PAGE_CHARACTERS for length in lengths))


def _row_id(room: ChatRoom, message_id: str) -> int:
    found = Message.objects.filter(room=room, message_id=message_id).values_list("id", flat=True).first()
    if found is None:
        raise errors.MessageNotFound()
    return found


def rooms_of(user: User) -> list[dict[str, Any]]:
    """Return the user's conversations with peer, unread count and last message, the latest first."""
    newest = Message.objects.filter(room=OuterRef("pk")).order_by("-id").values("id")[:1]
    rooms = ChatRoom.objects.of(user).annotate(newest=Subquery(newest)).select_related("first", "second")
    rooms = rooms.order_by(F("newest").desc(nulls_last=True), "-created_at")[:ROOMS_LISTED]
    last = Message.objects.select_related("room", "sender").in_bulk(
        [room.newest for room in rooms if room.newest]
    )
    unread = {row["chatRoomId"]: row["count"] for row in unread_counts(user)}
    online = online_among({room.peer_id(user.pk) for room in rooms})
    return [
        {
            "chat_room_id": room.pk,
            "hospital_id": room.hospital_id,
            "peer": _peer(peer, online if _shows_presence(room, peer) else set()),
            "unread_count": unread.get(room.pk, 0),
            "last_message": messages.ChatMessage.of(last[room.newest]) if room.newest else None,
        }
        for room in rooms
        for peer in [room.second if room.first_id == user.pk else room.first]
    ]


def _shows_presence(room: ChatRoom, peer: User) -> bool:
    return room.agreed_at is not None or not peer.is_patient


def _peer(user: User, online: set[str]) -> messages.Peer:
    return messages.Peer(user_id=user.pk, name=user.display_name, role=user.role, online=user.pk in online)


def unread_counts(user: User) -> list[dict[str, Any]]:
    """Return the number of unread messages by room."""
    return arrivals.unread_counts([user])[user.pk]


def unread_in(user: User, chat_room_id: str) -> Result:
    """Return the user's unread messages in a room, as `newMessage` envelopes, oldest first."""
    return unread_in_each([(user, chat_room_id)])[0]


def unread_in_each(asked: Sequence[tuple[User, str]]) -> list[Result]:
    """Return what `unread_in` does for each of these users and rooms, in order."""
    ids = _unread_ids(asked)
    together: defaultdict[str, list[str]] = defaultdict(list)
    for (user_id, _), own in ids.items():
        together[user_id] += own[:READ_TOGETHER]
    found = arrivals.envelopes_of(together)
    return [
        arrivals.followed_by(
            [envelope for envelope in found.get(user.pk, ()) if envelope.topic == room_id],
            user,
            ids[user.pk, room_id][READ_TOGETHER:],
        )
        for user, room_id in asked
    ]


def _unread_ids(asked: Sequence[tuple[User, str]]) -> dict[tuple[str, str], list[str]]:
    """Return the messageIds by userId and chatRoomId, oldest first."""
    users, rooms = {user for user, _ in asked}, {room_id for _, room_id in asked}
    unread = Message.objects.unread_by_any(users).filter(room__in=rooms).order_by("id")
    ids: dict[tuple[str, str], list[str]] = {(user.pk, room_id): [] for user, room_id in asked}
    for user_id, room_id, message_id in unread.values_list("receiver", "room", "message_id"):
        ids.setdefault((user_id, room_id), []).append(message_id)
    return ids


# Editing and deleting


@action
def edit(user: User, request: messages.EditMessage) -> Result:
    """Replace the text of a message; the old one becomes a revision.

    Raises MessageNotFound, Forbidden (not the sender) or InvalidTransition (too late, or deleted).
    """
    message = _lock_message(user, request.message_id)
    if message.sender_id != user.pk:
        raise errors.Forbidden("Only the sender may edit a message.")
    if not message.may_be_edited_by(user, timezone.now()):
        raise errors.InvalidTransition(
            f"A message may be edited for {settings.EDIT_MINUTES} minutes, until it is deleted."
        )
    Revision.objects.create(message=message, text=message.text)
    message.text, message.edited_at = request.message, timezone.now()
    message.save(update_fields=["text", "edited_at"])
    _publish_to_both(message, messages.MessageEdited.of)
    return Result(ack_data={"messageId": message.message_id, "chatRoomId": message.room_id})


@action
def delete(user: User, request: messages.DeleteMessage) -> Result:
    """Delete a message, as its sender or, with a reason, as an admin of the hospital.

    The original is kept for the audit, and the files that the message refers to are withdrawn.
    Raises MessageNotFound, Forbidden or ValidationFailed (an admin without a reason).
    """
    message = _lock_message(user, request.message_id, request.chat_room_id)
    if message.sender_id != user.pk:
        _must_be_moderator(user, message, request.reason)
    if message.deleted_at is None:
        message.deleted_at, message.deleted_by = timezone.now(), user
        message.delete_reason = request.reason or ""
        message.save(update_fields=["deleted_at", "deleted_by", "delete_reason"])
        if message.sender_id != user.pk:
            record(user, Verb.DELETE, message)
        attachments.withdraw_files_of(message)
        _publish_to_both(message, messages.MessageDeleted.of)
    return Result(ack_data={"messageId": message.message_id, "chatRoomId": message.room_id})


def _must_be_moderator(user: User, message: Message, reason: str | None) -> None:
    if not user.administers(message.room.hospital_id):
        raise errors.Forbidden("Only the sender or an admin of the hospital may delete a message.")
    if not reason or not reason.strip():
        raise errors.ValidationFailed("An admin gives a reason.", field="reason", reason="is missing")


def _lock_message(user: User, message_id: str, chat_room_id: str | None = None) -> Message:
    visible = Message.objects.visible_to(user)
    if chat_room_id:
        visible = visible.filter(room=chat_room_id)
    locked = visible.select_for_update(of=("self",)).select_related("room", "sender")
    return locked.find(message_id, errors.MessageNotFound(field="messageId"))


def _publish_to_both(message: Message, event: Callable[[Message], messages.Durable]) -> None:
    publish(event(message), groups.person(message.sender_id), groups.person(message.receiver_id))


# Typing


@action
def show_typing(user: User, receiver_id: str, hospital_id: str, chat_room_id: str, is_typing: bool) -> None:
    """Show the other side that the user is typing, or has stopped; nothing is stored."""
    publish(
        messages.TypingShown(
            user_id=user.pk,
            sender_id=user.pk,
            receiver_id=receiver_id,
            hospital_id=hospital_id,
            chat_room_id=chat_room_id,
            is_typing=is_typing,
        ),
        groups.person(receiver_id),
    )
