"""Files of a conversation: which types are stored, how they are served, when they are withdrawn."""

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

ATTACHMENT_PATH = re.compile(r"/api/chat/attachments/([0-9a-f-]{36})")
HEAD_BYTES = 8192
ALLOWED_TYPES = {
    "image/jpeg", "image/png", "image/gif", "image/webp", "image/heic",
    "audio/mpeg", "audio/mp4", "audio/ogg", "audio/x-wav", "audio/aac", "audio/amr", "audio/x-flac",
    "video/mp4", "video/quicktime", "video/webm", "video/3gpp",
    "application/pdf", "application/zip",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}  # fmt: skip
INLINE_TYPES = {"image/jpeg", "image/png", "image/gif", "image/webp"}


def content_type_of(file: UploadedFile) -> str:
    """The type of a file by its content, not its name. Raises ValidationFailed if it is not allowed."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    guess = filetype.guess(head)
    found = guess.mime if guess else _text_type(head)
    if found not in ALLOWED_TYPES and found != "text/plain":
        raise errors.ValidationFailed("This type of file is not taken.", field="file", reason=f"is {found}")
    return found


def _text_type(head: bytes) -> str:
    """`text/plain` for UTF-8 without NUL and without markup that a browser would run."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as undecodable:
        text = head.decode("utf-8", "ignore") if undecodable.start >= len(head) - 3 else "\x00"
    return (
        "application/octet-stream"
        if "\x00" in text or text.lstrip("\ufeff \t\r\n").startswith("<")
        else "text/plain"
    )


def store(user: User, room: ChatRoom, file: UploadedFile | None) -> Attachment:
    """Store a file for a room the user is a member of.

    Raises ChatRoomNotFound, ValidationFailed or MessageTooLarge.
    """
    if not room.has_member(user):
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


def open_attachment(user: User, attachment_id: str) -> Attachment:
    """Return a file the user may read; a reader who is no member of its room is recorded in the audit.

    Raises MessageNotFound.
    """
    found = Attachment.objects.visible_to(user).select_related("room").filter(pk=attachment_id).first()
    if found is None:
        raise errors.MessageNotFound("There is no such attachment.")
    if not found.room.has_member(user):
        record(user, Verb.READ, found)
    return found


def response_with(request: Any, attachment: Attachment) -> HttpResponseBase:
    """Serve a file so that no browser runs it as a page of this site.

    A cache must ask each time whether the file is still there, because it is withdrawn with its message.
    """
    etag = quote_etag(attachment.pk)
    response = get_conditional_response(request, etag=etag) or _full_response(attachment)
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-cache"
    response["ETag"] = etag
    return response


def _full_response(attachment: Attachment) -> HttpResponse:
    """The file in one piece: Django collects a synchronous stream before it sends it under ASGI anyway."""
    is_download = attachment.content_type not in INLINE_TYPES
    disposition = content_disposition_header(is_download, attachment.name) or "inline"
    with attachment.file.open("rb") as file:
        return HttpResponse(
            file.read(),
            content_type=attachment.content_type,
            headers={"Content-Disposition": disposition},
        )


def attachment_ids_in(value: Any) -> set[str]:
    """The ids of the stored files whose addresses stand anywhere in this text or JSON value."""
    return set(ATTACHMENT_PATH.findall(unquote(json.dumps(value))))


def withdraw_files_of(message: Message) -> None:
    """Withdraw the files of a deleted message, except those that another message of the room refers to."""
    named = attachment_ids_in([message.text, message.attachments])
    if unused := named - _still_used(message.room_id, named):
        files = Attachment.objects.filter(room=message.room_id, pk__in=unused, withdrawn_at=None)
        files.update(withdrawn_at=timezone.now())


def _still_used(room_id: str, attachment_ids: Iterable[str]) -> set[str]:
    """Those of the files that messages of the room refer to; reads the whole room, as deletions are rare."""
    wanted = [Q(files__contains=pk) | Q(text__contains=pk) for pk in attachment_ids]
    if not wanted:
        return set()
    shown = Message.objects.filter(room=room_id, deleted_at=None)
    referring = shown.alias(files=Cast("attachments", TextField())).filter(reduce(or_, wanted))
    return attachment_ids_in(list(referring.order_by().values_list("text", "attachments")))
