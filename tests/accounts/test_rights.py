"""A change of rights reaches open connections: each is closed that began with other rights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext

from hplus.accounts.models import User
from hplus.realtime.execution.db_threads import in_db_thread
from hplus.realtime.hub.reconciliation import Reconciliation
from hplus.realtime.hub.server_registration import ServerRegistration
from hplus.realtime.models import Connection
from tests.servers import ThreadServer

HOSPITAL = "hospital_001"


def version(user_id: str) -> int:
    return User.objects.values_list("rights_version", flat=True).get(pk=user_id)


def member_of_a_group() -> Group:
    group = Group.objects.create(name="on call")
    User.objects.get(pk="nurse_001").groups.add(group)
    return group


def a_permission() -> Permission:
    return Permission.objects.first()  # type: ignore[return-value]


def change(**fields: Any) -> Callable[[], object]:
    return lambda: User.objects.filter(pk="nurse_001").update(**fields)


def save(**fields: Any) -> None:
    nurse = User.objects.get(pk="nurse_001")
    for name, value in fields.items():
        setattr(nurse, name, value)
    nurse.save()


RAISING = {
    "role": change(role="doctor"),
    "role, saved": lambda: save(role="doctor"),
    "hospital": change(hospital_id="hospital_002"),
    "superuser": change(is_superuser=True),
    "admin site": change(is_staff=True),
    "active": change(is_active=False),
    "a permission": lambda: User.objects.get(pk="nurse_001").user_permissions.add(a_permission()),
    "a group": member_of_a_group,
}


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("what", RAISING)
def test_each_change_of_rights_raises_the_version(what: str) -> None:
    others = version("doctor_123")
    before = version("nurse_001")
    RAISING[what]()
    assert version("nurse_001") == before + 1
    assert version("doctor_123") == others


@pytest.mark.usefixtures("users")
def test_permissions_of_a_group_raise_the_version_of_its_members() -> None:
    group = member_of_a_group()
    before = version("nurse_001")
    group.permissions.add(a_permission())
    assert version("nurse_001") == before + 1
    group.permissions.clear()
    assert version("nurse_001") == before + 2
    group.delete()
    assert version("nurse_001") == before + 3


@pytest.mark.usefixtures("users")
def test_other_changes_raise_nothing_and_a_stale_row_takes_nothing_back() -> None:
    before = version("nurse_001")
    stale = User.objects.get(pk="nurse_001")
    save(name="Nora", department="ward 3")
    assert version("nurse_001") == before
    change(is_staff=True)()
    assert version("nurse_001") == before + 1
    stale.name = "Nora N."
    stale.save(update_fields=["name", "rights_version", "moved_at"])
    assert version("nurse_001") == before + 1
    change(hospital_id="hospital_002")()
    moved_at = User.objects.get(pk="nurse_001").moved_at
    assert moved_at is not None
    stale.save(update_fields=["rights_version", "moved_at"])
    assert User.objects.get(pk="nurse_001").moved_at == moved_at


async def test_connection_of_one_who_loses_superuser_is_closed(server: ThreadServer, settings: Any) -> None:
    settings.RECONCILE_SECONDS = 0.2
    await User.objects.filter(pk="admin_001").aupdate(is_superuser=True)
    async with (
        server.phone("admin_001", "admin", HOSPITAL) as chief,
        server.phone("nurse_001", "nurse", HOSPITAL) as nurse,
    ):
        await User.objects.filter(pk="admin_001").aupdate(is_superuser=False)
        error = await chief.expect_error("AUTHENTICATION_FAILED")
        assert error["details"] == {"reason": "expired"}  # a fresh connection helps
        assert await chief.expect_close() == 4001
        await nurse.echo()
        async with server.phone("admin_001", "admin", HOSPITAL) as again:
            await again.echo()


async def test_reconciliation_asks_no_more_for_more_connections(users: dict[str, User]) -> None:
    def queries(user_ids: list[str]) -> int:
        server = ServerRegistration()
        server.register()
        rows = [
            Connection(
                server_id=server.server_id,
                user=users[user_id],
                role=users[user_id].role,
                hospital=users[user_id].hospital_id or "",
            )
            for user_id in user_ids
        ]
        Connection.objects.bulk_create(rows)
        with CaptureQueriesContext(connection) as captured:
            found = Reconciliation(server).reconcile(rows, set())
        assert found.expelled == {}
        return len(captured)

    few = await in_db_thread(queries, ["nurse_001"])
    assert await in_db_thread(queries, ["nurse_001", "doctor_123", "patient_123", "admin_001"]) == few
