"""What a reconciliation finds: mailboxes that went on, connections to be closed, rows left behind."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from hplus import errors
from hplus.accounts.models import Session, User
from hplus.realtime.execution import prepared
from hplus.realtime.hub import reconciliation
from hplus.realtime.hub.reconciliation import Findings, Reconciliation
from hplus.realtime.hub.server_registration import ServerRegistration
from hplus.realtime.models import Connection, Mailbox, ServerProcess
from tests.servers import connect_directly

is_postgresql = not settings.DATABASES["default"]["ENGINE"].endswith("sqlite3")
needs_postgresql = pytest.mark.skipif(not is_postgresql, reason="statements are prepared on PostgreSQL")
HOSPITAL = "hospital_001"
PEOPLE = ("doctor_123", "nurse_001", "admin_001", "patient_123")


@pytest.fixture(params=["one statement", "queries"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "queries":
        monkeypatch.setattr(prepared, "is_available", lambda: False)
    elif not is_postgresql:
        pytest.skip("statements are prepared on PostgreSQL")


class Server:
    """A server with a connection of each of the people."""

    def __init__(self, users: dict[str, User]) -> None:
        self.registration = ServerRegistration()
        self.registration.register()
        self.reconciliation = Reconciliation(self.registration)
        self.connections = {user_id: self.connect(users[user_id]) for user_id in PEOPLE}
        for user_id in PEOPLE:
            Mailbox.objects.create(pk=user_id, last_seq=1)

    def connect(self, user: User, **fields: object) -> Connection:
        given = {
            "server_id": self.registration.server_id,
            "user": user,
            "role": user.role,
            "hospital": user.hospital_id or "",
            "connected_at": timezone.now() - timedelta(minutes=1),
            **fields,
        }
        return Connection.objects.create(**given)

    def reconcile(self) -> Findings:
        return self.reconciliation.reconcile(list(self.connections.values()), set())


@pytest.fixture
def server(users: dict[str, User], way: None) -> Server:
    return Server(users)


def test_connections_that_are_no_longer_allowed_are_found_with_the_reason(
    server: Server, users: dict[str, User]
) -> None:
    assert server.reconcile().expelled == {}
    revoked = Session.objects.create(user=users["test_user"], revoked_at=timezone.now())
    server.connections["test_user"] = server.connect(users["test_user"], session=revoked)
    User.objects.filter(pk="patient_123").update(signed_out_at=timezone.now())
    User.objects.filter(pk="doctor_123").update(is_active=False)
    User.objects.filter(pk="nurse_001").update(role="doctor")
    User.objects.filter(pk="admin_001").update(hospital="hospital_002")
    expected = {
        "test_user": errors.SessionRevoked,
        "patient_123": errors.SessionRevoked,
        "doctor_123": errors.AccountDisabled,
        "nurse_001": errors.AuthenticationFailed,
        "admin_001": errors.AuthenticationFailed,
    }
    found = server.reconcile().expelled
    assert {user_id: type(found[row.pk]) for user_id, row in server.connections.items()} == expected


def test_rows_without_a_connection_here_are_deleted_once_no_handshake_can_be_under_way(
    server: Server, users: dict[str, User]
) -> None:
    ghost = server.connect(users["test_user"])
    young = server.connect(users["test_user"], connected_at=timezone.now())
    server.reconcile()
    left = set(Connection.objects.values_list("pk", flat=True))
    assert left == {row.pk for row in server.connections.values()} | {young.pk}
    assert ghost.pk not in left


def test_server_taken_for_dead_registers_again_with_its_connections(server: Server) -> None:
    ServerProcess.objects.all().delete()
    assert not Connection.objects.exists()
    assert server.reconcile().was_taken_for_dead
    assert Connection.objects.count() == len(PEOPLE)
    assert not server.reconcile().was_taken_for_dead


def test_another_server_is_a_neighbour(server: Server) -> None:
    assert not server.reconcile().has_neighbours
    ServerProcess.objects.create(host="another", pid=1)
    assert server.reconcile().has_neighbours


@needs_postgresql
@pytest.mark.parametrize("way", ["one statement"], indirect=True)
def test_a_look_sees_the_mailboxes_that_have_changed_since_the_last_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = dict.fromkeys(PEOPLE, 1)
    assert dict(server.reconcile().last_seqs) == everything
    server.reconcile()  # what was on its way during the first look may be seen twice
    assert server.reconcile().last_seqs == []
    Mailbox.objects.draw({"doctor_123": 2})
    assert server.reconcile().last_seqs == [("doctor_123", 3)]
    server.reconciliation.see_all_again()
    assert dict(server.reconcile().last_seqs) == {**everything, "doctor_123": 3}
    monkeypatch.setattr(reconciliation, "COMPLETE_EVERY", 1)
    assert dict(server.reconcile().last_seqs) == {**everything, "doctor_123": 3}


@needs_postgresql
@pytest.mark.parametrize("way", ["one statement"], indirect=True)
def test_a_change_that_commits_after_a_later_one_is_seen(server: Server) -> None:
    """The order of transactions is not that of their commits."""
    with connect_directly() as slow:
        slow.execute("BEGIN")
        slow.execute("UPDATE realtime_mailbox SET last_seq = 9 WHERE user_id = 'nurse_001'")
        Mailbox.objects.draw({"doctor_123": 1})
        server.reconcile()
        assert ("nurse_001", 9) not in server.reconcile().last_seqs
        slow.execute("COMMIT")
    assert ("nurse_001", 9) in server.reconcile().last_seqs


@needs_postgresql
@pytest.mark.parametrize("way", ["one statement"], indirect=True)
def test_a_look_makes_no_query_of_its_own(server: Server) -> None:
    server.reconcile()
    with CaptureQueriesContext(connection) as queries:
        server.reconcile()
    assert len(queries) == 0
