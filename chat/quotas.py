"""How much may be uploaded: by a person in 24 hours, into a room, into a hospital, onto this disk."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import QuerySet, Sum
from django.utils import timezone

from chat.models import Attachment, ChatRoom
from hplus import errors
from hplus.accounts.models import User
from hplus.operations.disk import LEAST_FREE_BYTES, MEBIBYTE, free_bytes


def check_quota(user: User, room: ChatRoom, size_bytes: int) -> None:
    """Raise QuotaExceeded with the scope and what is left where the file does not fit into a quota.

    Two uploads at once may both fit: a quota is passed by as much as one person sends in parallel at most.
    """
    files = Attachment.objects.order_by()
    yesterday = timezone.now() - timedelta(days=1)
    scopes = {
        "user": files.filter(uploader=user, uploaded_at__gt=yesterday),
        "room": files.filter(room=room),
        "hospital": files.filter(room__hospital=room.hospital_id),
    }
    for scope, rows in scopes.items():
        _check(scope, settings.HPLUS_UPLOAD_QUOTA_MB[scope] * MEBIBYTE, rows, size_bytes)
    if free_bytes() - size_bytes < LEAST_FREE_BYTES:
        raise errors.QuotaExceeded(scope="server", bytesLeft=0)


def _check(scope: str, quota_bytes: int, rows: QuerySet[Attachment], size_bytes: int) -> None:
    if not quota_bytes:
        return
    used = rows.aggregate(bytes=Sum("size_bytes"))["bytes"] or 0
    if used + size_bytes > quota_bytes:
        raise errors.QuotaExceeded(scope=scope, quotaBytes=quota_bytes, bytesLeft=max(0, quota_bytes - used))
