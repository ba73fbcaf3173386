"""A database of an earlier version migrates forward with its rows, while servers of that version go on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from emergency.attention import faults, turn_of
from emergency.escalation import escalate_due
from emergency.models import Emergency
from emergency.stalled import check_due
from hplus.accounts.models import User

FIRST = [("emergency", "0002_open_emergencies")]  # of the first published version
OPEN_COUNT = 3


@pytest.fixture
def before(users: dict[str, User]) -> Iterator[Any]:
    """The models of the first version, on its schema; afterwards the newest schema again."""
    try:
        yield _migrate(FIRST)
    finally:
        call_command("migrate", verbosity=0)


def _migrate(targets: list[tuple[str, str]]) -> Any:
    executor = MigrationExecutor(connection)
    executor.migrate(targets)
    return executor.loader.project_state(targets).apps


def _call(models: Any, **fields: Any) -> Any:
    """An emergency as the first version stores it."""
    now = timezone.now()
    row = {
        "hospital_id": "hospital_001", "patient_id": "patient_123", "lat": 1.5, "lng": 1.5,
        "condition": "Burn", "priority": "high", "requested_by_id": "patient_123",
        "requested_by_role": "patient", "requested_at": now - timedelta(minutes=1),
        "status": "pending", "escalate_at": now + timedelta(minutes=1), **fields,
    }  # fmt: skip
    return models.get_model("emergency", "Emergency").objects.create(**row)


def _accepted(**fields: Any) -> dict[str, Any]:
    now = timezone.now()
    taken = {"assigned_to_id": "paramedic_456", "assigned_role": "paramedic", "accepted_at": now}
    return {"status": "accepted", "escalate_at": None, **taken, **fields}


def test_rows_of_the_first_version_keep_all_and_get_a_next_deadline(before: Any) -> None:
    now = timezone.now()
    rows = [
        _call(before),
        _call(before, **_accepted()),
        _call(before, **_accepted(status="in_progress", phase="onScene", on_scene_at=now)),
        _call(before, status="cancelled", escalate_at=None, cancelled_at=now),
        _call(before, **_accepted(status="completed", completed_at=now)),
    ]
    before.get_model("emergency", "HospitalPolicy").objects.create(hospital_id="hospital_001")
    entry = before.get_model("emergency", "Entry").objects.create(
        emergency=rows[0], kind="requested", at=now, data={"status": "pending"}
    )
    columns = [field.attname for field in rows[0]._meta.concrete_fields]
    values = [{name: getattr(row, name) for name in columns} for row in rows]
    call_command("migrate", verbosity=0)
    kept = [Emergency.objects.get(pk=row.pk) for row in rows]
    assert [{name: getattr(row, name) for name in columns} for row in kept] == values
    assert kept[0].entries.get().pk == entry.pk
    opened = Emergency.objects.open()
    assert opened.count() == OPEN_COUNT
    assert not opened.unattended().exists()
    assert all(turn_of(row).deadline for row in opened)
    check_due()
    pending, accepted, on_scene = kept[:OPEN_COUNT]
    for row in kept:
        row.refresh_from_db()
    assert (pending.check_at, pending.escalate_at) == (None, values[0]["escalate_at"])
    for row in (accepted, on_scene):
        assert row.check_at is not None
        assert row.check_at > now, "nobody is released because of the upgrade"
        assert row.stalled_cause == ""
    assert not list(faults(timezone.now()))


def test_server_of_the_first_version_goes_on_during_the_upgrade(before: Any) -> None:
    """It inserts, accepts, completes and escalates with the columns it knows."""
    call_command("migrate", verbosity=0)
    model = before.get_model("emergency", "Emergency")
    row = _call(before)
    assert not Emergency.objects.open().unattended().exists()
    model.objects.filter(pk=row.pk).update(**_accepted())
    assert not Emergency.objects.open().unattended().exists()
    check_due()
    taken = Emergency.objects.get(pk=row.pk)
    assert taken.status == "accepted"
    assert taken.acknowledged_at is not None
    assert taken.check_at is not None
    assert taken.check_at > timezone.now()
    model.objects.filter(pk=row.pk).update(status="completed", completed_at=timezone.now())
    assert check_due() == 0
    late = _call(before, escalate_at=timezone.now() - timedelta(seconds=1))
    check_due()
    assert escalate_due() == 1
    assert Emergency.objects.get(pk=late.pk).escalation_level == 1


def test_check_is_validated_after_the_migrations(users: dict[str, User]) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("PostgreSQL alone adds a check without looking at the rows")
    with connection.cursor() as cursor:
        cursor.execute("SELECT convalidated FROM pg_constraint WHERE conname = 'open_has_a_next_deadline'")
        assert cursor.fetchall() == [(True,)]
