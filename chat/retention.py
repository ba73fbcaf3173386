"""What becomes of conversations when their time is over; one under legal hold stays as it is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from chat.models import Attachment, ChatRoom, Message, Revision
from hplus.protocol.wire import REMOVED

BATCH_ROWS = 1000


def held_people() -> set[str]:
    """The userIds of everyone in a conversation under legal hold."""
    pairs = ChatRoom.objects.filter(held_at__isnull=False).values_list("first", "second")
    return {user_id for pair in pairs for user_id in pair}


def expired(before: datetime) -> dict[str, int]:
    """How much `anonymise` would replace."""
    return {"messages": _messages(before).count(), "attachments": _attachments(before).count()}


def anonymise(before: datetime) -> dict[str, int]:
    """Texts, places and files of before that time. Who wrote to whom, and when, stays."""
    counts = {"messages": 0, "attachments": 0}
    while done := _next_messages(before):
        counts["messages"] += done
    while done := _next_attachments(before):
        counts["attachments"] += done
    return counts


def _messages(before: datetime) -> QuerySet[Message]:
    return Message.objects.filter(sent_at__lt=before, room__held_at=None).exclude(text=REMOVED)


def _attachments(before: datetime) -> QuerySet[Attachment]:
    return Attachment.objects.filter(uploaded_at__lt=before, room__held_at=None)


@transaction.atomic
def _next_messages(before: datetime) -> int:
    """A portion of them, with their rooms locked so that no hold begins meanwhile."""
    ids = list(_messages(before).order_by("id").values_list("id", flat=True)[:BATCH_ROWS])
    _lock_rooms(Message.objects.filter(pk__in=ids).order_by().values("room"))
    chosen = _messages(before).filter(pk__in=ids)
    Revision.objects.filter(message__in=chosen).delete()
    return chosen.update(text=REMOVED, attachments=None, location=None, fingerprint="", delete_reason="")


@transaction.atomic
def _next_attachments(before: datetime) -> int:
    ids = list(_attachments(before).values_list("pk", flat=True)[:BATCH_ROWS])
    _lock_rooms(Attachment.objects.filter(pk__in=ids).order_by().values("room"))
    chosen = list(_attachments(before).filter(pk__in=ids))
    Attachment.objects.filter(pk__in=[attachment.pk for attachment in chosen]).delete()
    for attachment in chosen:
        file = attachment.file
        transaction.on_commit(lambda file=file: file.storage.delete(file.name))
    return len(chosen)


def _lock_rooms(ids: QuerySet[Any, Any]) -> None:
    list(ChatRoom.objects.filter(pk__in=ids).order_by("pk").select_for_update())
