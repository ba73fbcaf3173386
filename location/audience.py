"""Who hears of a position, and by which grant."""

from __future__ import annotations

from dataclasses import dataclass

from hplus.accounts.models import User
from hplus.realtime import groups
from hplus.realtime.groups import Group
from location.models import Grant


@dataclass
class Audience:
    """Each listener with the grant it hears by; the staff of a paramedic on duty need none."""

    hospitals: dict[str, Grant | None]
    people: dict[str, Grant]

    @classmethod
    def of(cls, user: User, grants: list[Grant], reason_id: str, *, is_on_duty: bool) -> Audience:
        """Nobody hears it twice; whoever is in several matters hears it for the one it belongs to."""
        audience = cls({}, {})
        ordered = sorted(grants, key=lambda grant: grant.reason_id != reason_id)
        for grant in ordered:
            if grant.to_hospital_id:
                audience.hospitals.setdefault(grant.to_hospital_id, grant)
        if is_on_duty and user.hospital_id:
            audience.hospitals.setdefault(user.hospital_id, None)
        for grant in ordered:
            if grant.to_user and not audience.includes(grant.to_user):
                audience.people[grant.to_user.pk] = grant
        return audience

    def includes(self, user: User) -> bool:
        return user.pk in self.people or any(user.works_at(hospital) for hospital in self.hospitals)

    def by_reason(self) -> list[tuple[Grant | None, list[Group]]]:
        """One telling for each matter, so that none learns of another."""
        heard: dict[str, tuple[Grant | None, list[Group]]] = {}
        for hospital_id, grant in self.hospitals.items():
            heard.setdefault(_reason_id(grant), (grant, []))[1].append(groups.staff(hospital_id))
        for user_id, grant in self.people.items():
            heard.setdefault(_reason_id(grant), (grant, []))[1].append(groups.person(user_id))
        return list(heard.values())


def _reason_id(grant: Grant | None) -> str:
    return grant.reason_id if grant else ""
