"""A page of a conversation for the admin site: messages with quotes, files, states and earlier texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from chat.attachments import ATTACHMENT_PATH
from chat.models import Attachment, ChatRoom, Message, may_read_originals
from hplus.accounts.models import User

PAGE_MESSAGES = 100


@dataclass(frozen=True)
class File:
    """A file of a message; `attachment_id` only where it is stored for this room and may be opened."""

    name: str
    attachment_id: str = ""


@dataclass(frozen=True)
class TranscriptMessage:
    """One message as the page shows it."""

    message: Message
    is_left: bool
    text: str
    quoted: str | None
    files: list[File]
    place: str
    # The text of a deleted message, where the reader may read it.
    original: str | None
    earlier: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Transcript:
    """Messages, oldest first; `older` and `newer` are the ids where the neighbouring pages begin."""

    messages: list[TranscriptMessage]
    older: int | None
    newer: int | None


def transcript(
    user: User, room: ChatRoom, *, before: int | None = None, after: int | None = None
) -> Transcript:
    """Return a page of a room that the reader may read, oldest first, with five queries."""
    found = Message.objects.filter(room=room).select_related("sender", "deleted_by")
    found = found.prefetch_related("revisions")
    if before:
        found = found.filter(id__lt=before)
    if after:
        found = found.filter(id__gt=after)
    rows = list(found.order_by("id" if after else "-id")[: PAGE_MESSAGES + 1])
    is_more, rows = len(rows) > PAGE_MESSAGES, rows[:PAGE_MESSAGES]
    rows = rows if after else rows[::-1]
    if not rows:
        return Transcript([], None, None)
    older = rows[0].pk if is_more or after else None
    newer = rows[-1].pk if (is_more if after else before) else None
    return Transcript(_shown(user, room, rows), older, newer)


def _shown(user: User, room: ChatRoom, rows: list[Message]) -> list[TranscriptMessage]:
    quoted = _quoted(room, rows)
    known = _known_files(user, room, rows)
    may_read_deleted = may_read_originals(user)
    return [
        TranscriptMessage(
            message=row,
            is_left=row.sender_id == room.first_id,
            text=row.visible_content()["message"],
            quoted=quoted.get(row.reply_to or "") if not row.deleted_at else None,
            files=[
                _file(file, known)
                for file in _files_of(row if may_read_deleted or not row.deleted_at else None)
            ],
            place=_place(row.visible_content()["location"]),
            original=row.text if row.deleted_at and may_read_deleted else None,
            earlier=list(row.revisions.all()) if may_read_deleted or not row.deleted_at else [],
        )
        for row in rows
    ]


def _quoted(room: ChatRoom, rows: Iterable[Message]) -> dict[str, str]:
    wanted = {row.reply_to for row in rows if row.reply_to}
    found = Message.objects.filter(room=room, message_id__in=wanted)
    return {row.message_id: row.visible_content()["message"] or "a deleted message" for row in found}


def _known_files(user: User, room: ChatRoom, rows: Iterable[Message]) -> set[str]:
    wanted = {_attachment_id(file) for row in rows for file in _files_of(row)}
    found = Attachment.objects.visible_to(user).filter(room=room, pk__in=wanted)
    return set(found.values_list("pk", flat=True))


def _files_of(row: Message | None) -> list[dict[str, Any]]:
    files = row.attachments if row is not None else None
    return [file for file in files if isinstance(file, dict)] if isinstance(files, list) else []


def _file(file: dict[str, Any], known: set[str]) -> File:
    name = str(file.get("name") or file.get("type") or "a file without a name")
    attachment_id = _attachment_id(file)
    return File(name, attachment_id if attachment_id in known else "")


def _attachment_id(file: dict[str, Any]) -> str:
    found = ATTACHMENT_PATH.search(str(file.get("url") or ""))
    return found.group(1) if found else ""


def _place(location: Any) -> str:
    place = location if isinstance(location, dict) else {}
    return ", ".join(str(place[key]) for key in ("lat", "lng", "address") if place.get(key) is not None)
