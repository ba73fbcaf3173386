"""Anonymise conversations after the retention time, except those under legal hold."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from chat.models import Attachment, ChatRoom, Message, Revision
from hplus.protocol.wire import REMOVED

BATCH_ROWS = 1000


def users_under_legal_hold() -> set[str]:
    """The userIds of the members of all rooms under legal hold."""
    pairs = ChatRoom.objects.filter(held_at__isnull=False).values_list("first", "second")
    return {user_id for pair in pairs for user_id in pair}


def expired(before: datetime) -> dict[str, int]:
    """How many rows `anonymise` would change."""
    return {"messages": _messages(before).count(), "attachments": _attachments(before).count()}


def anonymise(before: datetime) -> dict[str, int]:
    """Remove texts, locations and files from before that time; who wrote to whom, and when, stays.

    Returns how many rows were changed.
    """
    counts = {"messages": 0, "attachments": 0}
    while done := _anonymise_messages(before):
        counts["messages"] += done
    while done := _delete_attachments(before):
        counts["attachments"] += done
    return counts


def _messages(before: datetime) -> QuerySet[Message]:
    return Message.objects.filter(sent_at__lt=before, room__held_at=None).exclude(text=REMOVED)


def _attachments(before: datetime) -> QuerySet[Attachment]:
    return Attachment.objects.filter(uploaded_at__lt=before, room__held_at=None)


@transaction.atomic
def _anonymise_messages(before: datetime) -> int:
    """Anonymise one batch, with its rooms locked so that no hold begins meanwhile."""
    ids = list(_messages(before).order_by("id").values_list("id", flat=True)[:BATCH_ROWS])
    _lock_rooms(Message.objects.filter(pk__in=ids).order_by().values("room"))
    chosen = _messages(before).filter(pk__in=ids)
    Revision.objects.filter(message__in=chosen).delete()
    return chosen.update(text=REMOVED, attachments=None, location=None, fingerprint="", delete_reason="")


@transaction.atomic
def _delete_attachments(before: datetime) -> int:
    """Delete one batch and its files, with the rooms locked as above."""
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
