"""What every new socket asks must not read through every emergency there ever was."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from emergency.models import Emergency
from emergency.status import OPEN
from hplus.accounts.models import User


@pytest.mark.parametrize("user_id", ["patient_123", "doctor_123"])
def test_what_is_open_is_found_by_its_index(people: dict[str, User], user_id: str) -> None:
    visible = Emergency.objects.visible_to(people[user_id])
    for asked in (visible.filter(status__in=OPEN), visible.open(), visible.pending()):
        with connection.cursor() as cursor:  # an empty table is read through faster than by any index
            cursor.execute("SET enable_seqscan = off")
            plan: Any = asked.explain()
            cursor.execute("RESET enable_seqscan")
        assert "emergency_open" in plan
