"""Anonymise conversations after the retention time, except those under legal hold; delete unused uploads."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from chat.attachments import named_in_room
from chat.models import Attachment, ChatRoom, Message, Revision
from hplus.portions import repeat_in_portions
from hplus.protocol.wire import REMOVED

BATCH_ROWS = 1000
UNNAMED_UPLOAD = timedelta(hours=24)  # long enough for a message that waits in a phone's queue
UNNAMED_BATCH = 200  # each looks through its room's messages


def users_under_legal_hold() -> set[str]:
    """Return the userIds of the members of all rooms under legal hold."""
    pairs = ChatRoom.objects.filter(held_at__isnull=False).values_list("first", "second")
    return {user_id for pair in pairs for user_id in pair}


def expired(before: datetime) -> dict[str, int]:
    """Return how many rows `anonymise` would change."""
    return {"messages": _messages(before).count(), "attachments": _attachments(before).count()}


def anonymise(before: datetime) -> dict[str, int]:
    """Remove texts, locations and files from before that time; who wrote to whom, and when, stays.

    Returns how many rows were changed.
    """
    return {
        "messages": repeat_in_portions(partial(_anonymise_messages, before), BATCH_ROWS),
        "attachments": repeat_in_portions(partial(_delete_attachments, before), BATCH_ROWS),
    }


def _messages(before: datetime) -> QuerySet[Message]:
    return Message.objects.filter(sent_at__lt=before, room__held_at=None).exclude(text=REMOVED)


def _attachments(before: datetime) -> QuerySet[Attachment]:
    return Attachment.objects.filter(uploaded_at__lt=before, room__held_at=None)


@transaction.atomic
def _anonymise_messages(before: datetime, limit: int) -> int:
    """Anonymise one batch, with its rooms locked so that no hold begins meanwhile."""
    ids = list(_messages(before).order_by("id").values_list("id", flat=True)[:limit])
    _lock_rooms(Message.objects.filter(pk__in=ids).order_by().values("room"))
    chosen = _messages(before).filter(pk__in=ids)
    Revision.objects.filter(message__in=chosen).delete()
    return chosen.update(text=REMOVED, attachments=None, location=None, fingerprint="", delete_reason="")


@transaction.atomic
def _delete_attachments(before: datetime, limit: int) -> int:
    """Delete one batch and its files, with the rooms locked as above."""
    ids = list(_attachments(before).values_list("pk", flat=True)[:limit])
    _lock_rooms(Attachment.objects.filter(pk__in=ids).order_by().values("room"))
    return _delete(list(_attachments(before).filter(pk__in=ids)))


def _delete(chosen: list[Attachment]) -> int:
    """Delete these rows, and after the commit their files."""
    Attachment.objects.filter(pk__in=[attachment.pk for attachment in chosen]).delete()
    for attachment in chosen:
        for file in filter(None, (attachment.file, attachment.original)):
            transaction.on_commit(partial(file.storage.delete, file.name))
    return len(chosen)


def delete_unnamed_uploads() -> int:
    """Delete the uploads of more than a day ago that no message names, except those under legal hold.

    What a message names is marked, so that it is not looked at again. Returns how many were deleted.
    """
    deleted = 0
    while (batch := _look_at_unnamed_uploads()) is not None:
        deleted += batch
    return deleted


@transaction.atomic
def _look_at_unnamed_uploads() -> int | None:
    """Delete or mark a batch, with its rooms locked so that no message names one meanwhile; None if none."""
    waiting = _attachments(timezone.now() - UNNAMED_UPLOAD).filter(named_at=None, withdrawn_at=None)
    ids = list(waiting.order_by("uploaded_at").values_list("pk", flat=True)[:UNNAMED_BATCH])
    if not ids:
        return None
    _lock_rooms(Attachment.objects.filter(pk__in=ids).order_by().values("room"))
    chosen = list(waiting.filter(pk__in=ids))
    named = _named(chosen)
    Attachment.objects.filter(pk__in=named).update(named_at=timezone.now())
    return _delete([attachment for attachment in chosen if attachment.pk not in named])


def _named(chosen: list[Attachment]) -> set[str]:
    """Those of the uploads that messages of their rooms name."""
    by_room: defaultdict[str, set[str]] = defaultdict(set)
    for attachment in chosen:
        by_room[attachment.room_id].add(attachment.pk)
    return {pk for room, ids in by_room.items() for pk in ids & named_in_room(room, ids)}


def _lock_rooms(ids: QuerySet[Any, Any]) -> None:
    list(ChatRoom.objects.filter(pk__in=ids).order_by("pk").select_for_update())
