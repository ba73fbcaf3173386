"""What every new socket asks must not read through every emergency there ever was."""

from __future__ import annotations

import pytest
from django.db import connection
from django.utils import timezone

from emergency.models import Emergency
from emergency.status import OPEN, Status
from hplus.accounts.models import User

LONG_OVER = 3_000  # so many that to read through them all is no choice


@pytest.mark.parametrize("user_id", ["patient_123", "doctor_123"])
def test_open_emergencies_are_found_by_index(users: dict[str, User], user_id: str) -> None:
    statuses = [*[Status.CANCELLED] * LONG_OVER, Status.PENDING]
    Emergency.objects.bulk_create([emergency(users["patient_123"], status) for status in statuses])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE emergency_emergency")
    of_open_ones = [index.name for index in Emergency._meta.indexes if index.condition]
    visible = Emergency.objects.visible_to(users[user_id])
    listed = Emergency.objects.listed_for(users[user_id])
    for asked in (visible.filter(status__in=OPEN), visible.open(), visible.pending(), listed.open()):
        plan = asked.explain()
        assert any(name in plan for name in of_open_ones)
        assert "Seq Scan on emergency_emergency" not in plan


def emergency(patient: User, status: str) -> Emergency:
    return Emergency(
        hospital_id="hospital_001",
        patient_id=patient.pk,
        lat=37.7749,
        lng=-122.4194,
        condition="Chest pain",
        priority="low",
        status=status,
        requested_by=patient,
        requested_by_role=patient.role,
        requested_at=timezone.now(),
        cancelled_at=timezone.now() if status == Status.CANCELLED else None,
    )
