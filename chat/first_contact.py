"""Rooms that staff open with patients: until the patient agrees, staff learn nothing there but the name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from chat.models import ChatRoom
from hplus import errors
from hplus.accounts.models import User, who_have_talked
from hplus.audit.actions import record_all, record_of
from hplus.audit.models import Verb
from hplus.realtime.models import Contact

COUNTED_WITHIN = timedelta(hours=1)


def agrees(user: User, other: User) -> bool:
    """Whether the two may hear of each other once this user has opened the room or has written."""
    return (user.pk, other.pk) in agreeing([(user, other)])


def agreeing(pairs: Iterable[tuple[User, User]]) -> set[tuple[str, str]]:
    """Return the userIds of those of these pairs for whom `agrees` holds.

    A patient agrees by opening the room, by writing, by a call with this member of the staff, or by an open
    emergency that concerns both.
    """
    asked = list(pairs)
    at_once = {(user.pk, other.pk) for user, other in asked if user.is_patient or not other.is_patient}
    approaches = [(other, user) for user, other in asked if (user.pk, other.pk) not in at_once]
    return at_once | {(staff_id, patient_id) for patient_id, staff_id in _in_touch(approaches)}


def _in_touch(pairs: list[tuple[User, User]]) -> set[tuple[str, str]]:
    """Of these patients and members of the staff."""
    if not pairs:
        return set()
    patients, staff = zip(*pairs, strict=True)
    concerned = Contact.objects.filter(user__in=patients, contact__in=staff)
    known = {*concerned.values_list("user_id", "contact_id"), *who_have_talked(pairs)}
    return known & {(patient.pk, one.pk) for patient, one in pairs}


class Approaches:
    """When these members of the staff have approached patients lately, with those that are noted here."""

    def __init__(self, users: Iterable[User]) -> None:
        self._now = timezone.now()
        opened = ChatRoom.objects.filter(opened_by__in=users, created_at__gt=self._now - COUNTED_WITHIN)
        self._times: dict[str, list[datetime]] = defaultdict(list)
        for user_id, at in opened.order_by("created_at").values_list("opened_by_id", "created_at"):
            self._times[user_id].append(at)

    def note(self, user: User) -> None:
        """Note one more. Raises RateLimited where these are too many."""
        times, most = self._times[user.pk], settings.FIRST_CONTACTS_PER_HOUR
        if len(times) >= most:
            wait = times[-most] + COUNTED_WITHIN - self._now
            raise errors.RateLimited("Too many first contacts.", retry_after=round(wait.total_seconds(), 1))
        times.append(self._now)


def note_first_contacts(opened: Iterable[tuple[User, ChatRoom]]) -> None:
    """Record that these members of the staff have approached patients who have not agreed."""
    record_all(
        [
            record_of(user, Verb.ADD, room, what="first contact", patientId=room.peer_id(user.pk))
            for user, room in opened
        ]
    )


def agree(rooms: Sequence[ChatRoom]) -> None:
    """From now on the two of each room hear of each other's presence, and staff may send notices.

    Safe to repeat.
    """
    waiting = ChatRoom.objects.filter(pk__in=[room.pk for room in rooms], agreed_at=None)
    waiting.update(agreed_at=timezone.now())
    Contact.share((room.pk, room.first_id, room.second_id) for room in rooms)


def agree_between(patient_ids: Iterable[str], staff_ids: Iterable[str]) -> None:
    """Agree, for these patients, to the rooms that these members of the staff have opened. Safe to repeat.

    An emergency names who is concerned by it; calls name who takes part, by `settings.AGREEMENT`.
    """
    patients, staff = list(patient_ids), list(staff_ids)
    pairs = Q(first__in=patients, second__in=staff) | Q(first__in=staff, second__in=patients)
    agree(list(ChatRoom.objects.filter(pairs, agreed_at=None).order_by("pk")))
