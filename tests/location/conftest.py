"""The demo's people inside the test's own transaction: rules need no server."""

from __future__ import annotations

import pytest

from hplus.accounts.models import User
from hplus.management.commands.seed_demo import seed_people
from hplus.realtime.models import Presence


@pytest.fixture
def users_on_duty(db: None) -> dict[str, User]:
    """By userId; all paramedics are on duty."""
    seed_people()
    found = User.objects.in_bulk()
    on_duty = [user for user in found.values() if user.role == "paramedic"]
    Presence.objects.bulk_create([Presence(user=user, status="available") for user in on_duty])
    return found
