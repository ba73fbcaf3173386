"""The groups of the channel layer, and their members.

A group name allows only few characters, a userId or hospitalId any UTF-8 text, so names contain hashed ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from hplus.accounts.models import User

PERSONS = "persons"  # every server listens to it


@lru_cache(maxsize=10_000)
def _hashed(identifier: str) -> str:
    return hashlib.blake2b(identifier.encode(), digest_size=12).hexdigest()


@dataclass(frozen=True)
class Group:
    """A name on the layer, and the userIds whose mailboxes keep a durable event for it.

    Events for one `person` go to every server, those of many persons in one message: a layer message for each
    person would cost more than all the rest of a chat message.
    """

    name: str
    members: Callable[[], Iterable[str]]
    person: str = ""


def person(user_id: str) -> Group:
    """Return the group of all connections of one person."""
    return Group(PERSONS, lambda: [user_id], person=user_id)


def hospital_role(hospital_id: str, role: str) -> Group:
    """Return the group of everyone with one staff role in a hospital."""
    return Group(
        f"hospital.{_hashed(hospital_id)}.{role}",
        lambda: User.objects.staff_of(hospital_id).filter(role=role).values_list("pk", flat=True),
    )


def staff(hospital_id: str) -> Group:
    """Return the group of all staff of a hospital."""
    return Group(
        f"hospital.{_hashed(hospital_id)}.staff",
        lambda: User.objects.staff_of(hospital_id).values_list("pk", flat=True),
    )


def announcements(hospital_id: str) -> Group:
    """Return the group of patients who joined a hospital; mailboxes keep nothing for it."""
    return Group(f"hospital.{_hashed(hospital_id)}.public", list)


def board(hospital_id: str) -> Group:
    """Return the group of connections of the hospital's live board; mailboxes keep nothing for it."""
    return Group(f"hospital.{_hashed(hospital_id)}.board", list)


def positions(hospital_id: str, reason_id: str = "") -> Group:
    """Return connections that watch the positions a hospital may see, or those of one reason; mailboxes keep
    nothing for it."""
    name = f"hospital.{_hashed(hospital_id)}.positions"
    return Group(f"{name}.{_hashed(reason_id)}" if reason_id else name, list)


def of(user: User) -> list[Group]:
    """Return the groups that a connection of this user joins, beside the one of the person."""
    if user.is_patient or user.hospital_id is None:
        return []
    return [staff(user.hospital_id), hospital_role(user.hospital_id, user.role)]
