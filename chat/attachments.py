"""Files of a conversation: which types are stored, how they are served, when they are withdrawn."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any
from urllib.parse import unquote

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Q, TextField
from django.db.models.functions import Cast
from django.http import HttpResponse, HttpResponseBase
from django.utils import timezone
from django.utils.cache import get_conditional_response
from django.utils.http import content_disposition_header, quote_etag

from chat.byte_ranges import Part, asked_part
from chat.file_metadata import without_metadata
from chat.file_types import content_type_of, safe_name
from chat.models import Attachment, ChatRoom, Message, may_read_originals
from chat.quotas import check_quota
from hplus import errors
from hplus.accounts.models import User
from hplus.audit.actions import record
from hplus.audit.models import Verb

ATTACHMENT_PATH = re.compile(r"/api/chat/attachments/([0-9a-f-]{36})")
INLINE_TYPES = {"image/jpeg", "image/png", "image/gif", "image/webp"}


def store(user: User, room: ChatRoom, file: UploadedFile | None) -> Attachment:
    """Store a file for a room the user is a member of; pictures and videos without place and time.

    Raises ChatRoomNotFound, ValidationFailed, MessageTooLarge or QuotaExceeded.
    """
    if not room.has_member(user):
        raise errors.ChatRoomNotFound()
    if file is None or not file.size:
        raise errors.ValidationFailed("file is missing or empty.", field="file", reason="is missing")
    if file.size > settings.ATTACHMENT_BYTES:
        raise errors.MessageTooLarge(field="file", maxBytes=settings.ATTACHMENT_BYTES)
    check_quota(user, room, file.size)
    content = file.read()
    content_type = content_type_of(content)
    clean = without_metadata(content, content_type)
    return Attachment.objects.create(
        room=room,
        uploader=user,
        file=ContentFile(clean, "clean"),
        original=ContentFile(content, "original") if clean != content else None,
        name=safe_name(file.name or "", content_type),
        size_bytes=len(clean),
        content_type=content_type,
    )


def open_attachment(user: User, attachment_id: str) -> Attachment:
    """Return a file the user may read; a reader who is no member of its room is recorded in the audit.

    Raises MessageNotFound.
    """
    visible = Attachment.objects.visible_to(user).select_related("room")
    found = visible.find(attachment_id, errors.MessageNotFound("There is no such attachment."))
    if not found.room.has_member(user):
        record(user, Verb.READ, found)
    return found


def open_original(user: User, attachment_id: str) -> Attachment:
    """Return a file whose upload still carries place and time, for those who may read originals; audited.

    Raises MessageNotFound, also where nothing was removed from the upload.
    """
    found = Attachment.objects.visible_to(user).select_related("room").filter(pk=attachment_id).first()
    if found is None or not found.original or not may_read_originals(user):
        raise errors.MessageNotFound("There is no such attachment.")
    record(user, Verb.READ, found, original=True)
    found.file = found.original
    return found


def response_with(request: Any, attachment: Attachment) -> HttpResponseBase:
    """Serve a file, or the part that a player asks for, so that no browser runs it as a page of this site.

    A cache must ask each time whether the file is still there, because it is withdrawn with its message.
    """
    etag = quote_etag(attachment.pk)
    response = get_conditional_response(request, etag=etag) or _response(request, attachment, etag)
    response["Accept-Ranges"] = "bytes"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-cache"
    response["ETag"] = etag
    return response


def _response(request: Any, attachment: Attachment, etag: str) -> HttpResponse:
    """The whole or the part: Django collects a synchronous stream before it sends it under ASGI anyway."""
    is_download = attachment.content_type not in INLINE_TYPES
    headers = {"Content-Disposition": content_disposition_header(is_download, attachment.name) or "inline"}
    size = attachment.file.size
    part = asked_part(request.headers, size, etag)
    if part is not None and not part.is_satisfiable:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    if part is not None:
        headers["Content-Range"] = f"bytes {part.first}-{part.last}/{size}"
    status = 200 if part is None else 206
    content = _read(attachment, part or Part(0, size - 1))
    return HttpResponse(content, attachment.content_type, status=status, headers=headers)


def _read(attachment: Attachment, part: Part) -> bytes:
    with attachment.file.open("rb") as file:
        file.seek(part.first)
        return bytes(file.read(part.last - part.first + 1))


def attachment_ids_in(value: Any) -> set[str]:
    """Return the ids of the stored files whose addresses stand anywhere in this text or JSON value."""
    return set(ATTACHMENT_PATH.findall(unquote(json.dumps(value))))


def withdraw_files_of(message: Message) -> None:
    """Withdraw the files of a deleted message, except those that another message of the room refers to."""
    named = attachment_ids_in([message.text, message.attachments])
    if unused := named - named_in_room(message.room_id, named):
        files = Attachment.objects.filter(room=message.room_id, pk__in=unused, withdrawn_at=None)
        files.update(withdrawn_at=timezone.now())


def named_in_room(room_id: str, attachment_ids: Iterable[str]) -> set[str]:
    """Those of the files that messages of the room refer to; reads the whole room, as it is rarely asked."""
    wanted = [Q(files__contains=pk) | Q(text__contains=pk) for pk in attachment_ids]
    if not wanted:
        return set()
    shown = Message.objects.filter(room=room_id, deleted_at=None)
    referring = shown.alias(files=Cast("attachments", TextField())).filter(reduce(or_, wanted))
    return attachment_ids_in(list(referring.order_by().values_list("text", "attachments")))
