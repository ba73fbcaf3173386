"""Files in a conversation: what is taken, judged by content, how it is given out, and until when."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any
from urllib.parse import unquote

import filetype
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Q, TextField
from django.db.models.functions import Cast
from django.http import HttpResponse, HttpResponseBase
from django.utils import timezone
from django.utils.cache import get_conditional_response
from django.utils.http import content_disposition_header, quote_etag

from chat.models import Attachment, ChatRoom, Message
from hplus import errors
from hplus.accounts.models import User
from hplus.audit.actions import record
from hplus.audit.models import Verb

OURS = re.compile(r"/api/chat/attachments/([0-9a-f-]{36})")
HEAD_BYTES = 8192
TAKEN = {
    "image/jpeg", "image/png", "image/gif", "image/webp", "image/heic",
    "audio/mpeg", "audio/mp4", "audio/ogg", "audio/x-wav", "audio/aac", "audio/amr", "audio/x-flac",
    "video/mp4", "video/quicktime", "video/webm", "video/3gpp",
    "application/pdf", "application/zip",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}  # fmt: skip
SHOWN_INLINE = {"image/jpeg", "image/png", "image/gif", "image/webp"}


def content_type_of(file: UploadedFile) -> str:
    """What the bytes are, whatever the client calls them. Raises ValidationFailed for what is not taken."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    guess = filetype.guess(head)
    found = guess.mime if guess else _as_text(head)
    if found not in TAKEN and found != "text/plain":
        raise errors.ValidationFailed("This type of file is not taken.", field="file", reason=f"is {found}")
    return found


def _as_text(head: bytes) -> str:
    """Plain text has neither NUL nor markup that a browser would run."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as broken:
        text = head.decode("utf-8", "ignore") if broken.start >= len(head) - 3 else "\x00"
    return (
        "application/octet-stream"
        if "\x00" in text or text.lstrip("\ufeff \t\r\n").startswith("<")
        else "text/plain"
    )


def take(user: User, room: ChatRoom, file: UploadedFile | None) -> Attachment:
    """Store a file for a room. Raises ChatRoomNotFound, ValidationFailed or MessageTooLarge."""
    if not room.is_of(user):
        raise errors.ChatRoomNotFound()
    if file is None or not file.size:
        raise errors.ValidationFailed("file is missing or empty.", field="file", reason="is missing")
    if file.size > settings.ATTACHMENT_BYTES:
        raise errors.MessageTooLarge(field="file", maxBytes=settings.ATTACHMENT_BYTES)
    return Attachment.objects.create(
        room=room,
        uploader=user,
        file=file,
        name=_clean_name(file.name or ""),
        size_bytes=file.size,
        content_type=content_type_of(file),
    )


def _clean_name(name: str) -> str:
    printable = "".join(c for c in name if c.isprintable() and c not in '/\\"')
    return printable.strip(". ")[-200:] or "file"


def open_for(user: User, attachment_id: str) -> Attachment:
    """A file this user may see; that somebody opens it who does not talk in its room goes into the audit.

    Raises MessageNotFound.
    """
    found = Attachment.objects.visible_to(user).select_related("room").filter(pk=attachment_id).first()
    if found is None:
        raise errors.MessageNotFound("There is no such attachment.")
    if not found.room.is_of(user):
        record(user, Verb.READ, found)
    return found


def give(request: Any, attachment: Attachment) -> HttpResponseBase:
    """The file, never as something a browser would run in our name.

    A cache has to ask each time whether it may still be shown: it goes with its message.
    """
    etag = quote_etag(attachment.pk)
    response = get_conditional_response(request, etag=etag) or _whole(attachment)
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-cache"
    response["ETag"] = etag
    return response


def _whole(attachment: Attachment) -> HttpResponse:
    """In one piece: a stream would be gathered before it is sent anyway, as its reader is synchronous."""
    is_download = attachment.content_type not in SHOWN_INLINE
    disposition = content_disposition_header(is_download, attachment.name) or "inline"
    with attachment.file.open("rb") as file:
        return HttpResponse(
            file.read(),
            content_type=attachment.content_type,
            headers={"Content-Disposition": disposition},
        )


def named_in(value: Any) -> set[str]:
    """The ids of the files of ours whose addresses stand anywhere in this text or JSON value."""
    return set(OURS.findall(unquote(json.dumps(value))))


def withdraw_with(message: Message) -> None:
    """The files of a deleted message go with it, but for those another message of the room still shows."""
    named = named_in([message.text, message.attachments])
    if gone := named - _still_shown(message.room_id, named):
        files = Attachment.objects.filter(room=message.room_id, pk__in=gone, withdrawn_at=None)
        files.update(withdrawn_at=timezone.now())


def _still_shown(room_id: str, attachment_ids: Iterable[str]) -> set[str]:
    """One look through the room; a message is seldom deleted."""
    wanted = [Q(files__contains=pk) | Q(text__contains=pk) for pk in attachment_ids]
    if not wanted:
        return set()
    shown = Message.objects.filter(room=room_id, deleted_at=None)
    naming = shown.alias(files=Cast("attachments", TextField())).filter(reduce(or_, wanted))
    return named_in(list(naming.order_by().values_list("text", "attachments")))
