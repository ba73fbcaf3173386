"""Names of the groups on the channel layer, and who is in them.

A userId or hospitalId is any UTF-8 text, a group name is not: ids go in hashed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hplus.accounts.models import User

PERSONS = "persons"  # every server listens to it


def _hashed(identifier: str) -> str:
    return hashlib.blake2b(identifier.encode(), digest_size=12).hexdigest()


@dataclass(frozen=True)
class Group:
    """A name on the layer, and the userIds a durable event for it is kept for.

    What is for one `person` goes to every server, many persons' in one message: a publish for
    each would cost more than all the rest of a chat message.
    """

    name: str
    members: Callable[[], Iterable[str]]
    person: str = ""


def person(user_id: str) -> Group:
    """All sockets of one person."""
    return Group(PERSONS, lambda: [user_id], person=user_id)


def hospital_role(hospital_id: str, role: str) -> Group:
    """Everyone with one staff role in a hospital."""
    return Group(
        f"hospital.{_hashed(hospital_id)}.{role}",
        lambda: User.objects.staff_of(hospital_id).filter(role=role).values_list("pk", flat=True),
    )


def staff(hospital_id: str) -> Group:
    """All staff of a hospital."""
    return Group(
        f"hospital.{_hashed(hospital_id)}.staff",
        lambda: User.objects.staff_of(hospital_id).values_list("pk", flat=True),
    )


def announcements(hospital_id: str) -> Group:
    """Patients who listen to a hospital's announcements; nothing for it is kept."""
    return Group(f"hospital.{_hashed(hospital_id)}.public", list)


def board(hospital_id: str) -> Group:
    """Whoever has the hospital's board before them; nothing for it is kept."""
    return Group(f"hospital.{_hashed(hospital_id)}.board", list)


def positions(hospital_id: str, reason_id: str = "") -> Group:
    """Connections that asked for the positions a hospital may see, or for those of one reason; nothing
    for it is kept."""
    name = f"hospital.{_hashed(hospital_id)}.positions"
    return Group(f"{name}.{_hashed(reason_id)}" if reason_id else name, list)


def of(user: User) -> list[Group]:
    """What a socket of this user listens to, beside what is for this person."""
    if user.is_patient or user.hospital_id is None:
        return []
    return [staff(user.hospital_id), hospital_role(user.hospital_id, user.role)]
