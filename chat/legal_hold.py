"""Legal hold: as long as it is set, a conversation is not anonymised, for a court or an inquiry."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from chat.models import ChatRoom
from hplus import errors
from hplus.accounts.models import User
from hplus.audit.actions import record
from hplus.audit.models import Verb


@transaction.atomic
def hold(user: User, chat_room_id: str, reason: str) -> ChatRoom:
    """Put a room under legal hold. Raises ChatRoomNotFound, Forbidden or ValidationFailed (no reason)."""
    room = _lock_room_as_admin(user, chat_room_id)
    if not reason.strip():
        raise errors.ValidationFailed("A legal hold needs a reason.", field="reason", reason="is missing")
    if room.held_at is None:
        room.held_at, room.held_by, room.hold_reason = timezone.now(), user, reason.strip()[:500]
        room.save(update_fields=["held_at", "held_by", "hold_reason"])
        record(user, Verb.HOLD, room, what="begins")
    return room


@transaction.atomic
def release(user: User, chat_room_id: str) -> ChatRoom:
    """End the legal hold of a room. Raises ChatRoomNotFound or Forbidden."""
    room = _lock_room_as_admin(user, chat_room_id)
    if room.held_at is not None:
        room.held_at, room.held_by, room.hold_reason = None, None, ""
        room.save(update_fields=["held_at", "held_by", "hold_reason"])
        record(user, Verb.HOLD, room, what="ends")
    return room


def _lock_room_as_admin(user: User, chat_room_id: str) -> ChatRoom:
    visible = ChatRoom.objects.visible_to(user).select_for_update(of=("self",))
    room = visible.find(chat_room_id, errors.ChatRoomNotFound())
    if not (user.is_superuser or user.administers(room.hospital_id)):
        raise errors.Forbidden()
    return room
