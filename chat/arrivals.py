"""What a new connection gets of the chat: how many messages are unread, and those that reached no device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from django.db.models import Count

from chat.messages import NewMessage
from chat.models import Message
from hplus.accounts.models import User
from hplus.realtime.actions import READ_TOGETHER, Result, in_pages
from hplus.realtime.publishing.envelopes import Envelope, envelope_of
from hplus.realtime.publishing.mailbox import newest_entries

# Of those who connect: SQL on `newcomer`, see DomainConsumer. LIMIT makes the database look each up by the
# index, also where the plan was made for an empty table.
UNREAD = """
SELECT user_id FROM newcomer WHERE (
  SELECT true FROM chat_message message
  WHERE message.receiver_id = newcomer.user_id AND message.read_at IS NULL AND message.deleted_at IS NULL
  LIMIT 1)
"""
UNDELIVERED = """
SELECT user_id FROM newcomer WHERE (
  SELECT true FROM chat_message message
  WHERE message.receiver_id = newcomer.user_id AND message.read_at IS NULL AND message.deleted_at IS NULL
    AND message.delivered_at IS NULL
  LIMIT 1)
"""


def unread_counts(users: Sequence[User]) -> dict[str, list[dict[str, Any]]]:
    """Return userId → how many unread messages wait in which room."""
    counts: dict[str, list[dict[str, Any]]] = {user.pk: [] for user in users}
    unread = Message.objects.unread_by_any(users).order_by()
    for row in unread.values("receiver", "room").annotate(count=Count("id")):
        counts[row["receiver"]].append({"chatRoomId": row["room"], "count": row["count"]})
    return counts


def undelivered(users: Sequence[User]) -> dict[str, Result]:
    """Return userId → the messages that have reached no device, oldest first."""
    waiting = Message.objects.unread_by_any(users).filter(delivered_at=None).order_by("id")
    ids: dict[str, list[str]] = {user.pk: [] for user in users}
    for user_id, message_id in waiting.values_list("receiver", "message_id"):
        ids[user_id].append(message_id)
    found = envelopes_of({user_id: own[:READ_TOGETHER] for user_id, own in ids.items()})
    return {user.pk: followed_by(found[user.pk], user, ids[user.pk][READ_TOGETHER:]) for user in users}


def followed_by(first: list[Envelope], user: User, rest: list[str]) -> Result:
    """Return these messages, and after them the rest as the client reads."""
    return Result(events=first, next_page=partial(messages_in_pages, user, rest) if rest else None)


def messages_in_pages(user: User, message_ids: Sequence[str]) -> Result:
    """Return the first of these messages as `newMessage`; the others follow as the client reads."""
    return in_pages(message_ids, lambda page: envelopes_of({user.pk: page})[user.pk])


def envelopes_of(message_ids: Mapping[str, Sequence[str]]) -> dict[str, list[Envelope]]:
    """Return userId → `newMessage` of each, from the mailbox; without a `seq` where its entry has expired."""
    found = newest_entries(message_ids, NewMessage.type)
    missing = {m for user_id, ids in message_ids.items() for m in ids if m not in found[user_id]}
    unplaced = {
        message_id: envelope_of(event, event_id=message_id)
        for message_id, event in (NewMessage.rebuild(missing) if missing else {}).items()
    }
    envelopes: defaultdict[str, list[Envelope]] = defaultdict(list)
    for user_id, ids in message_ids.items():
        in_order = (found[user_id].get(message_id) or unplaced.get(message_id) for message_id in ids)
        envelopes[user_id] = [envelope for envelope in in_order if envelope is not None]
    return envelopes
