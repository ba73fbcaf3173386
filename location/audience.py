"""To whom a position is published, and by which grant.

The people of an emergency get its positions as they come. Staff who may see a position get it only where
they have asked for it (`watchLocations`).
"""

from __future__ import annotations

from dataclasses import dataclass

from hplus.accounts.models import User
from hplus.realtime import groups
from hplus.realtime.groups import Group
from location.models import Grant


@dataclass
class Audience:
    """Hospitals whose staff may see the position, and users, each with the grant by which they see it.

    The hospital of a paramedic on duty needs no grant. `reasons` has every grant to a hospital: staff who
    watch one of several emergencies get the position for that one.
    """

    hospitals: dict[str, Grant | None]
    people: dict[str, Grant]
    reasons: list[Grant]

    @classmethod
    def of(cls, user: User, grants: list[Grant], reason_id: str, *, is_on_duty: bool) -> Audience:
        """Return each hospital and user once, preferably by the grant that the position belongs to."""
        audience = cls({}, {}, [grant for grant in grants if grant.to_hospital_id])
        for grant in sorted(grants, key=lambda grant: grant.reason_id != reason_id):
            if grant.to_hospital_id:
                audience.hospitals.setdefault(grant.to_hospital_id, grant)
            elif grant.to_user_id:
                audience.people.setdefault(grant.to_user_id, grant)
        if is_on_duty and user.hospital_id:
            audience.hospitals.setdefault(user.hospital_id, None)
        return audience

    def grant_for(self, user: User) -> Grant | None:
        """Return the grant by which a user who may see the position sees it; None where none is needed."""
        return self.people.get(user.pk) or (
            None if user.is_patient else self.hospitals.get(user.hospital_id or "")
        )

    def groups_by_reason(self) -> list[tuple[Grant | None, list[Group]]]:
        """Return the groups to publish to by reason, so that no group learns of another reason."""
        groups_by_reason: dict[str, tuple[Grant | None, list[Group]]] = {}
        for grant, group in self._groups():
            groups_by_reason.setdefault(grant.reason_id if grant else "", (grant, []))[1].append(group)
        return list(groups_by_reason.values())

    def _groups(self) -> list[tuple[Grant | None, Group]]:
        return [
            *((grant, groups.positions(hospital)) for hospital, grant in self.hospitals.items()),
            *(
                (grant, groups.positions(grant.to_hospital_id or "", grant.reason_id))
                for grant in self.reasons
            ),
            *((grant, groups.person(user_id)) for user_id, grant in self.people.items()),
        ]
