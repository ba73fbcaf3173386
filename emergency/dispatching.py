"""Who dispatches for a hospital: its admins. Nothing else in this domain decides it."""

from __future__ import annotations

from hplus.accounts.models import Role, User


def dispatchers(hospital_id: str) -> list[str]:
    """Return the userIds of those who dispatch for the hospital."""
    admins = User.objects.staff_of(hospital_id).filter(role=Role.ADMIN)
    return list(admins.order_by("pk").values_list("pk", flat=True))


def is_dispatcher(user: User, hospital_id: str) -> bool:
    return user.administers(hospital_id)
