"""Mark messages as delivered and as read, many in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.utils import timezone

from chat import messages
from chat.models import Message
from hplus import errors
from hplus.accounts.models import User
from hplus.realtime import groups
from hplus.realtime.actions import Command, Result, action, publish
from hplus.realtime.publishing.mailbox import entries_about

ACKNOWLEDGED_MESSAGES = 500


def mark_as_read(user: User, request: messages.MarkAsRead) -> Result:
    """Mark as read outside a batch. Raises MessageNotFound."""
    [outcome] = read_all([Command(user, request)])
    if isinstance(outcome, errors.Refusal):
        raise outcome
    return outcome


@action
def deliver_all(written: list[tuple[str, str]]) -> list[None]:
    """Mark as delivered what was written to a receiver's connection: a list of (userId, messageId)."""
    wanted = set(written)
    rows = _lock({message_id for _, message_id in wanted})
    fresh = [row for row in rows if (row.receiver_id, row.message_id) in wanted and row.delivered_at is None]
    _deliver(fresh)
    return [None] * len(written)


def _deliver(fresh: list[Message]) -> None:
    now = timezone.now()
    for message in fresh:
        message.delivered_at = now
    Message.objects.filter(pk__in=[message.pk for message in fresh]).update(delivered_at=now)
    for message in fresh:
        publish(messages.MessageDelivered.of(message), groups.person(message.sender_id))


def deliver_all_up_to(acks: Sequence[tuple[str, int]]) -> None:
    """Mark as delivered the messages in the mailbox of each user up to an entry: a list of (userId, seq)."""
    last = dict(sorted(acks))
    waiting = Message.objects.unread_by_any(last).filter(delivered_at=None)
    about = waiting.values_list("receiver", "message_id")[: ACKNOWLEDGED_MESSAGES * len(last)]
    entries = entries_about(about, messages.NewMessage.type)
    if reached := [(e.user_id, e.subject) for e in entries if e.seq <= last[e.user_id]]:
        deliver_all(reached)


@action
def read_all(commands: list[Command]) -> list[Result | errors.Refusal]:
    """Mark as read, and return a result or MessageNotFound for each command.

    Only the receiver's mark changes anything; the sender's is accepted without effect.
    """
    rows = {row.message_id: row for row in _lock({_request_of(command).message_id for command in commands})}
    outcomes: list[Result | errors.Refusal] = []
    fresh: dict[int, Message] = {}
    for command in commands:
        message, mark = rows.get(_request_of(command).message_id), _request_of(command)
        if message is None or not _is_participant(message, command.user, mark.chat_room_id):
            outcomes.append(errors.MessageNotFound(field="messageId"))
            continue
        if message.receiver_id == command.user.pk:
            fresh.update((row.pk, row) for row in _with_earlier(message, mark.up_to) if row.read_at is None)
        outcomes.append(Result(ack_data={"messageId": message.message_id, "chatRoomId": message.room_id}))
    _read([fresh[pk] for pk in sorted(fresh)])
    return outcomes


def _request_of(command: Command) -> messages.MarkAsRead:
    assert isinstance(command.request, messages.MarkAsRead)
    return command.request


def _is_participant(message: Message, user: User, chat_room_id: str | None) -> bool:
    return user.pk in (message.sender_id, message.receiver_id) and chat_room_id in (
        None,
        message.room_id,
    )


def _with_earlier(message: Message, includes_earlier: bool) -> Iterable[Message]:
    if not includes_earlier:
        return [message]
    earlier = Message.objects.filter(
        room=message.room_id, receiver=message.receiver_id, id__lte=message.id, read_at=None
    )
    return earlier.select_for_update(of=("self",)).order_by("id")


def _read(fresh: list[Message]) -> None:
    _deliver([message for message in fresh if message.delivered_at is None])
    now = timezone.now()
    for message in fresh:
        message.read_at = now
    Message.objects.filter(pk__in=[message.pk for message in fresh]).update(read_at=now)
    for message in fresh:
        publish(messages.MessageRead.of(message), groups.person(message.sender_id))


def _lock(message_ids: Iterable[str]) -> list[Message]:
    """Lock these messages in the order of their ids, so that no two actions deadlock."""
    rows = Message.objects.select_for_update(of=("self",))
    return list(rows.filter(message_id__in=message_ids).order_by("id"))
