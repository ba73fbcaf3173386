"""Rooms that staff open with patients: until the patient agrees, staff learn nothing there but the name."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from chat.models import ChatRoom
from hplus import errors
from hplus.accounts.models import User, have_talked
from hplus.audit.actions import record
from hplus.audit.models import Verb
from hplus.realtime.models import Contact

COUNTED_WITHIN = timedelta(hours=1)


def agrees(user: User, other: User) -> bool:
    """Whether the two may hear of each other once this user has opened the room or has written.

    A patient agrees by opening it, by writing, by a call with this member of the staff, or by an open
    emergency that concerns both.
    """
    return user.is_patient or not other.is_patient or _is_in_touch(other, user)


def _is_in_touch(patient: User, staff: User) -> bool:
    is_concerned = Contact.objects.filter(user=patient, contact=staff).exists()
    return is_concerned or have_talked(patient, staff)


def must_have_contacts_left(user: User) -> None:
    """Raise RateLimited where this member of the staff has approached too many patients lately."""
    most = settings.FIRST_CONTACTS_PER_HOUR
    since = timezone.now() - COUNTED_WITHIN
    opened = ChatRoom.objects.filter(opened_by=user, created_at__gt=since).order_by("-created_at")
    times = list(opened.values_list("created_at", flat=True)[:most])
    if len(times) >= most:
        wait = times[-1] - since
        raise errors.RateLimited("Too many first contacts.", retry_after=round(wait.total_seconds(), 1))


def note_first_contact(user: User, room: ChatRoom) -> None:
    """Record that a member of the staff has approached a patient who has not agreed."""
    record(user, Verb.ADD, room, what="first contact", patientId=room.peer_id(user.pk))


def agree(room: ChatRoom) -> None:
    """From now on the two hear of each other's presence, and staff may send notices. Safe to repeat."""
    ChatRoom.objects.filter(pk=room.pk, agreed_at=None).update(agreed_at=timezone.now())
    Contact.share(room.pk, room.first_id, room.second_id)


def agree_between(patient_ids: Iterable[str], staff_ids: Iterable[str]) -> None:
    """Agree, for these patients, to the rooms that these members of the staff have opened. Safe to repeat.

    An emergency names who is concerned by it; calls name who takes part, by `settings.AGREEMENT`.
    """
    patients, staff = list(patient_ids), list(staff_ids)
    pairs = Q(first__in=patients, second__in=staff) | Q(first__in=staff, second__in=patients)
    for room in ChatRoom.objects.filter(pairs, agreed_at=None).order_by("pk"):
        agree(room)
