"""Connections come and go: many in one statement as one by one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.utils import timezone
from pytest_django import Settings

from hplus import errors
from hplus.accounts.models import Session, User
from hplus.notifications.actions import notify
from hplus.push.actions import register as register_device
from hplus.push.models import PushOutbox
from hplus.realtime.execution import prepared
from hplus.realtime.hub import arrivals, departures, expiry, presence
from hplus.realtime.hub.departures import Departure
from hplus.realtime.models import Connection, Contact, Mailbox, MailboxEntry, Presence, ServerProcess
from hplus.realtime.publishing import publisher
from hplus.realtime.publishing.envelopes import Delivery

HOSPITAL = "hospital_001"
needs_statements = pytest.mark.skipif(database.vendor != "postgresql", reason="statements are PostgreSQL's")


@pytest.fixture(params=[True, False], ids=["together", "one by one"])
def together(request: pytest.FixtureRequest, settings: Settings) -> bool:
    settings.HPLUS_PREPARED_STATEMENTS = request.param
    if request.param and not prepared.is_available():
        pytest.skip("statements are PostgreSQL's")
    return bool(request.param)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[Delivery]:
    deliveries: list[Delivery] = []
    monkeypatch.setattr(publisher, "publish", deliveries.extend)
    return deliveries


@pytest.fixture
def server(users: dict[str, User]) -> ServerProcess:
    return ServerProcess.objects.create(host="here", pid=1)


def told(published: list[Delivery]) -> list[tuple[str, str, bool]]:
    """Type, author and whether it went to a person, of each delivery; and forget them."""
    seen = sorted((d.envelope.event_type, d.envelope.author, bool(d.person)) for d in published)
    published.clear()
    return seen


def connection_of(server: ServerProcess, user: User, **fields: Any) -> Connection:
    return Connection(server=server, user=user, role=user.role, hospital=user.hospital_id or "", **fields)


def leave(connections: Iterable[Connection], *, is_clean: bool) -> None:
    departures.remove_all([Departure(connection, is_clean) for connection in connections])


def status(user_id: str) -> tuple[str, bool]:
    """The status, and whether the grace runs."""
    row = Presence.objects.get(pk=user_id)
    return row.status, row.offline_due_at is not None


def test_users_come_online_once_and_keep_their_status(
    users: dict[str, User], server: ServerProcess, published: list[Delivery], together: bool
) -> None:
    Presence.objects.create(user_id="nurse_001", status="away", offline_due_at=timezone.now())
    Mailbox.objects.create(user_id="nurse_001", last_seq=7)
    who = ["doctor_123", "nurse_001", "doctor_123", "patient_123"]
    placed = arrivals.register_all([connection_of(server, users[user_id]) for user_id in who])
    assert [place.last_seq for place in placed if isinstance(place, arrivals.Registered)] == [0, 7, 0, 0]
    assert len({place.epoch for place in placed if isinstance(place, arrivals.Registered)}) == 1
    assert sorted(Connection.objects.values_list("user_id", flat=True)) == sorted(who)
    assert [status(user_id) for user_id in who[1:]] == [
        ("away", False),
        ("available", False),
        ("available", False),
    ]
    # A patient without contacts is announced to nobody, and nobody who was there before.
    assert told(published) == [("userOnline", "doctor_123", False)]
    assert published == []


def test_connections_above_the_limit_are_refused_and_leave_nothing(
    users: dict[str, User], server: ServerProcess, settings: Settings, together: bool
) -> None:
    settings.HPLUS_MAX_SOCKETS_PER_USER = 3
    connection_of(server, users["doctor_123"]).save()
    coming = [connection_of(server, users["doctor_123"]) for _ in range(3)]
    other = connection_of(server, users["nurse_001"])
    placed = arrivals.register_all([*coming, other])
    assert [type(place) for place in placed] == [
        arrivals.Registered,
        arrivals.Registered,
        errors.TooManyConnections,
        arrivals.Registered,
    ]
    assert not Connection.objects.filter(pk=coming[2].pk).exists()
    assert Connection.objects.count() == 4


@needs_statements
def test_repeated_registration_changes_nothing(
    users: dict[str, User], server: ServerProcess, settings: Settings
) -> None:
    settings.HPLUS_MAX_SOCKETS_PER_USER = 1
    coming = [connection_of(server, users["doctor_123"])]
    for _ in range(2):
        [place] = arrivals.register_all(coming)
        assert isinstance(place, arrivals.Registered)
    assert Connection.objects.count() == 1


def test_departures_are_offline_at_once_or_after_the_grace(
    users: dict[str, User],
    server: ServerProcess,
    published: list[Delivery],
    settings: Settings,
    together: bool,
) -> None:
    settings.PRESENCE_GRACE_SECONDS = 0
    clean, lost, stays = (connection_of(server, users[u]) for u in ("doctor_123", "nurse_001", "doctor_456"))
    elsewhere = connection_of(server, users["doctor_456"])
    arrivals.register_all([clean, lost, stays, elsewhere])
    told(published)
    leave([clean, stays], is_clean=True)
    assert told(published) == [("userOffline", "doctor_123", False)]
    leave([lost], is_clean=False)
    assert [status(user_id) for user_id in ("doctor_123", "nurse_001", "doctor_456")] == [
        ("offline", False),
        ("available", True),
        ("available", False),
    ]
    assert told(published) == []
    assert expiry.expire_presence() == 1
    assert told(published) == [("userOffline", "nurse_001", False)]
    assert expiry.expire_presence() == 0
    assert Connection.objects.get() == elsewhere


def test_last_of_several_connections_decides_the_presence(
    users: dict[str, User], server: ServerProcess, together: bool
) -> None:
    for user_id, cleanly in (("doctor_123", [True, False]), ("nurse_001", [False, True])):
        both = [connection_of(server, users[user_id]) for _ in range(2)]
        arrivals.register_all(both)
        departures.remove_all([Departure(c, clean) for c, clean in zip(both, cleanly, strict=True)])
    assert status("doctor_123") == ("available", True)
    assert status("nurse_001") == ("offline", False)


def test_user_back_within_the_grace_does_not_expire(
    users: dict[str, User],
    server: ServerProcess,
    published: list[Delivery],
    settings: Settings,
    together: bool,
) -> None:
    settings.PRESENCE_GRACE_SECONDS = 0
    first, second = (connection_of(server, users["doctor_123"]) for _ in range(2))
    arrivals.register_all([first])
    leave([first], is_clean=False)
    second.save()  # it has its row, but nobody has marked its user online yet
    told(published)
    assert expiry.expire_presence() == 0
    assert status("doctor_123") == ("available", False)
    assert told(published) == []


@pytest.mark.parametrize(("age_seconds", "pushes"), [(0, 1), (100, 0)])
def test_event_written_into_a_lost_connection_is_pushed(
    users: dict[str, User],
    server: ServerProcess,
    settings: Settings,
    together: bool,
    age_seconds: int,
    pushes: int,
) -> None:
    settings.PRESENCE_GRACE_SECONDS = 0
    who = ["paramedic_456", "nurse_001"]
    for user_id in who:
        register_device(Session.objects.create(user_id=user_id), f"of {user_id}", device_id="phone")
    connections = [connection_of(server, users[user_id]) for user_id in who]
    arrivals.register_all(connections)
    notify(who, category="x", title="x", body="x", priority="urgent")
    MailboxEntry.objects.update(at=timezone.now() - timedelta(seconds=age_seconds))
    assert not PushOutbox.objects.exists()
    leave(connections[:1], is_clean=True)
    leave(connections[1:], is_clean=False)
    assert PushOutbox.objects.count() == pushes
    assert expiry.expire_presence() == 1
    assert PushOutbox.objects.count() == 2 * pushes
    assert [status(user_id) for user_id in who] == [("offline", False)] * 2


@needs_statements
def test_statement_finds_the_contacts_that_the_model_finds(
    users: dict[str, User], server: ServerProcess, published: list[Delivery]
) -> None:
    root = User.objects.create_superuser("chief", "x")
    pairs = [
        ("patient_123", "doctor_123"),
        ("patient_123", "doctor_002"),
        ("patient_123", "test_user"),  # patients never see each other
        ("doctor_123", "nurse_001"),  # who is told as one of the staff
        ("doctor_123", "nurse_002"),
        ("chief", "doctor_123"),
        ("chief", "test_user"),
    ]
    for one, other in pairs:
        Contact.share([("room", one, other), ("another", one, other)])
    seen: dict[str, set[str]] = {}
    for user_id in ("patient_123", "test_user", "doctor_123", "nurse_001", "nurse_002", root.pk):
        arrivals.register_all([connection_of(server, User.objects.get(pk=user_id))])
        seen[user_id] = {delivery.person for delivery in published if delivery.person}
        assert seen[user_id] == set(presence._contacts(User.objects.get(pk=user_id))), user_id
        published.clear()
    assert seen["patient_123"] == {"doctor_123", "doctor_002"}
    assert seen["doctor_123"] == {"patient_123", "nurse_002", "chief"}
