"""The fast path of locationUpdate against the ordinary action: the same cases both ways, the same rows and
events."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.forms import model_to_dict
from django.utils import timezone

from hplus.accounts.models import User
from hplus.realtime.models import Presence
from hplus.realtime.publishing import publisher
from hplus.realtime.publishing.envelopes import Delivery
from location import actions, messages
from location.consumers import FAST_RECORDING
from location.models import Fix, Latest
from location.recording import ReceivedPosition, Recorded, record_all
from tests.location.positions import MATTER, update

needs_postgresql = pytest.mark.skipif(
    django_settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"),
    reason="hot statements are PostgreSQL's",
)
pytestmark = [pytest.mark.django_db(transaction=True), needs_postgresql]
CREW = "paramedic_456"


@pytest.fixture
def deliveries(monkeypatch: pytest.MonkeyPatch) -> list[Delivery]:
    """What is published, whichever way."""
    published: list[Delivery] = []
    monkeypatch.setattr(publisher, "publish_in_loop", published.extend)
    monkeypatch.setattr(publisher, "publish", published.extend)
    return published


@pytest.fixture
def on_duty(users: dict[str, User], deliveries: list[Delivery]) -> dict[str, User]:
    """All paramedics are on duty, and have sent a position a minute ago."""
    crews = [user for user in users.values() if user.role == "paramedic"]
    Presence.objects.bulk_create([Presence(user=user, status="available") for user in crews])
    record_all([received(user, seconds_ago=60) for user in crews])
    deliveries.clear()
    return users


def received(user: User, lat: float = 37.0, *, seconds_ago: float = 0, **more: Any) -> ReceivedPosition:
    request = messages.UpdateLocation.read({"type": "locationUpdate", "data": update(lat, **more)})
    return ReceivedPosition(user, request, timezone.now() - timedelta(seconds=seconds_ago))


def record_fast(*positions: ReceivedPosition) -> list[Recorded | None]:
    """What the fast path makes of them; None for what it leaves to the ordinary action."""
    rows = [FAST_RECORDING.row_of(position) for position in positions]
    flying = [number for number, row in enumerate(rows) if row is not None]
    numbered = [{"n": n, **rows[number]} for n, number in enumerate(flying)]
    sql = FAST_RECORDING.statement.sql.replace("%", "%%").replace("$1", "%s")
    with connection.cursor() as cursor:
        cursor.execute(sql, [orjson.dumps(numbered).decode()])
        found = [(str(n).encode(), b"t" if flag else b"f") for n, flag in cursor.fetchall()]
    outcomes = dict(zip(flying, FAST_RECORDING.land(numbered, found), strict=True))
    return [outcomes.get(number) for number in range(len(positions))]


def stored() -> list[dict[str, Any]]:
    """Every row, without its number."""
    rows = [*Fix.objects.order_by("user", "at"), *Latest.objects.order_by("user")]
    return [{**model_to_dict(row, exclude=["id"]), "kind": type(row).__name__} for row in rows]


def frames(deliveries: list[Delivery]) -> list[tuple[Any, ...]]:
    """What went to which group, in whichever order; and who does not get it."""
    return sorted(
        (d.group, d.person, d.envelope.author, d.envelope.topic, d.envelope.but, json.loads(d.envelope.frame))
        for d in deliveries
    )


ROUTINE: list[dict[str, Any]] = [
    {},
    {"speed": 12.5, "heading": 90, "accuracy": None},
    {"accuracy": 1000},
    {"accuracy": 1000.5},
    {"lat": 37.01},  # 1,112 m in 60 s
    {"lat": 37.0377},  # 4,192 m: just below 70 m/s
    {"lat": 37.0379},  # just above
    {"lat": -37.0, "lng": 179.9},
    {"timestamp": "2030-01-01T00:00:00"},
    {"timestamp": "2999-01-01T00:00:00Z"},
    {"timestamp": "nonsense"},
]


@pytest.mark.parametrize("position", ROUTINE, ids=map(str, ROUTINE))
def test_routine_position_has_the_same_rows_and_events_on_both_paths(
    on_duty: dict[str, User], deliveries: list[Delivery], position: dict[str, Any]
) -> None:
    before = Latest.objects.get(pk=CREW)
    sent = received(on_duty[CREW], **position)
    assert record_fast(sent) == [Recorded()]
    fast = stored(), frames(deliveries)
    Fix.objects.latest("id").delete()
    before.save()
    deliveries.clear()
    assert record_all([sent]) == [Recorded()]
    assert (stored(), frames(deliveries)) == fast
    assert len(deliveries) == 1


def test_newest_positions_of_many_crews_share_a_statement(
    on_duty: dict[str, User], deliveries: list[Delivery]
) -> None:
    crews = [on_duty[user_id] for user_id in (CREW, "paramedic_789", "paramedic_002")]
    assert record_fast(*(received(user, lat) for lat, user in enumerate(crews))) == [Recorded()] * 3
    assert {d.envelope.author for d in deliveries} == {user.pk for user in crews}
    assert len({d.group for d in deliveries}) == 2
    assert dict(Latest.objects.values_list("user", "lat")) == {crew.pk: n for n, crew in enumerate(crews)}


Arrange = Callable[[dict[str, User]], object]
LEFT_OUT: dict[str, tuple[Arrange, dict[str, Any]]] = {
    "off duty": (lambda _: Presence.objects.filter(pk=CREW).update(status="offline"), {}),
    "never seen": (lambda _: Presence.objects.filter(pk=CREW).delete(), {}),
    "deactivated": (lambda _: User.objects.filter(pk=CREW).update(is_active=False), {}),
    "another role since": (lambda _: User.objects.filter(pk=CREW).update(role="doctor"), {}),
    "the first one": (lambda _: Latest.objects.filter(pk=CREW).delete(), {}),
    "in an emergency": (lambda _: actions.open_grant(MATTER, CREW, to_user="patient_123", why="crew"), {}),
    "asked for": (lambda users: actions.request_location(
        users["doctor_123"], messages.RequestLocation(target_user_id=CREW)), {}),
    "marked as an emergency's": (lambda _: None, {"is_emergency": True}),
    "of an emergency named": (lambda _: None, {"emergency_id": MATTER}),
    "older than the last": (lambda _: None, {"timestamp": "2020-01-01T00:00:00Z"}),
    "older than the last, without a zone": (lambda _: None, {"timestamp": "2026-11-22T09:14:59.123456"}),
    "at 0/0": (lambda _: None, {"lat": 0.0, "lng": 0.0}),
    "without a position": (lambda _: None, {"accuracy": -1}),
}  # fmt: skip


@pytest.mark.parametrize(("arrange", "position"), LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_position_that_is_not_routine_is_left_to_the_ordinary_action(
    on_duty: dict[str, User], deliveries: list[Delivery], arrange: Arrange, position: dict[str, Any]
) -> None:
    arrange(on_duty)
    deliveries.clear()
    before = stored()
    user, other = on_duty[CREW], on_duty["paramedic_789"]
    assert record_fast(received(user, **position), received(other, 38.0)) == [None, Recorded()]
    assert {d.envelope.author for d in deliveries} == {other.pk}
    assert [row for row in stored() if row["user"] == CREW] == [row for row in before if row["user"] == CREW]


def test_two_positions_of_one_crew_are_left_to_the_ordinary_action(
    on_duty: dict[str, User], deliveries: list[Delivery]
) -> None:
    twice = [received(on_duty[CREW], lat) for lat in (37.0, 37.001)]
    assert record_fast(*twice) == [None, None]
    assert deliveries == []
    assert record_all(twice) == [Recorded(), Recorded()]
    assert Latest.objects.get(pk=CREW).lat == 37.001


@pytest.mark.parametrize("user_id", ["patient_123", "doctor_123"])
def test_only_paramedics_are_on_duty(on_duty: dict[str, User], user_id: str) -> None:
    assert FAST_RECORDING.row_of(received(on_duty[user_id])) is None
