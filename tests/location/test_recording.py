"""What becomes of a fix: late, early, impossible, odd."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from django.utils import timezone as django_timezone

from hplus import errors
from hplus.accounts.models import User
from hplus.realtime.models import Presence
from location.messages import UpdateLocation
from location.models import Fix, Latest
from location.recording import ReceivedPosition, record_all
from location.visible_position import location_update
from tests.location.positions import update

NEW_YORK, TOKYO = timezone(timedelta(hours=-5)), timezone(timedelta(hours=9))


@pytest.fixture
def crew(users_on_duty: dict[str, User]) -> User:
    return users_on_duty["paramedic_456"]


def now() -> datetime:
    return django_timezone.now()


def record(user: User, *args: Any, received_at: datetime | None = None, **kwargs: Any) -> Fix:
    """One frame of the guide; the row it became."""
    request = UpdateLocation.read({"type": "locationUpdate", "data": update(*args, **kwargs)})
    record_all([ReceivedPosition(user, request, received_at or now())])
    return Fix.objects.latest("id")


def latest_lat(user: User) -> float:
    return Latest.objects.get(pk=user.pk).lat


def test_older_fix_is_stored_but_never_becomes_current(crew: User) -> None:
    record(crew, 1.0, timestamp=(now() - timedelta(seconds=10)).isoformat())
    late = record(crew, 2.0, timestamp=(now() - timedelta(seconds=20)).isoformat())
    assert (late.lat, latest_lat(crew)) == (2.0, 1.0)
    record(crew, 3.0, timestamp=(now() - timedelta(seconds=5)).isoformat())
    assert latest_lat(crew) == 3.0


def test_fix_from_the_future_does_not_block_later_ones(crew: User) -> None:
    future = (now() + timedelta(days=400)).isoformat()
    early = record(crew, 1.0, timestamp=future)
    assert early.at == early.received_at
    assert location_update(early, None).data.location.timestamp == early.at.isoformat().replace("+00:00", "Z")
    record(crew, 2.0, timestamp=now().isoformat())
    assert latest_lat(crew) == 2.0


@pytest.mark.parametrize("zone", [NEW_YORK, TOKYO], ids=["New York", "Tokyo"])
def test_time_without_zone_is_judged_by_its_arrival(crew: User, zone: timezone) -> None:
    local = datetime.now(zone).replace(tzinfo=None).isoformat()
    fix = record(crew, 1.0, timestamp=local)
    assert fix.at == fix.received_at
    assert fix.said_at == local
    spot = location_update(fix, None).data.location
    assert (spot.stale, spot.timestamp) == (False, fix.received_at.isoformat().replace("+00:00", "Z"))


@pytest.mark.parametrize("zone", [UTC, NEW_YORK, TOKYO], ids=["UTC", "New York", "Tokyo"])
def test_time_with_zone_is_relayed_in_utc(crew: User, zone: timezone) -> None:
    moment = (datetime.now(zone) - timedelta(seconds=3)).replace(microsecond=120_000)
    fix = record(crew, 1.0, timestamp=moment.isoformat(timespec="milliseconds"))
    assert fix.at == moment
    relayed = location_update(fix, None).data.location.timestamp
    assert relayed == moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def test_time_in_utc_is_relayed_unchanged(crew: User) -> None:
    said = (now() - timedelta(seconds=3)).strftime("%Y-%m-%dT%H:%M:%S.120Z")
    assert location_update(record(crew, 1.0, timestamp=said), None).data.location.timestamp == said


def test_fix_older_than_two_minutes_is_stale(crew: User) -> None:
    assert not location_update(
        record(crew, timestamp=(now() - timedelta(seconds=110)).isoformat()), None
    ).data.location.stale
    assert location_update(
        record(crew, timestamp=(now() - timedelta(seconds=130)).isoformat()), None
    ).data.location.stale
    naive = record(crew, received_at=now() - timedelta(seconds=130))
    assert location_update(naive, None).data.location.stale


@pytest.mark.parametrize(
    ("accuracy", "is_inaccurate"), [(1000, False), (1000.5, True), (5000, True), (None, False)]
)
def test_inaccurate_fix_is_stored_and_flagged(
    crew: User, accuracy: float | None, is_inaccurate: bool
) -> None:
    fix = record(crew, accuracy=accuracy)
    assert (fix.is_inaccurate, latest_lat(crew)) == (is_inaccurate, fix.lat)
    assert location_update(fix, None).data.location.inaccurate is is_inaccurate


@pytest.mark.parametrize(("metres", "is_implausible"), [(650, False), (750, True)])
def test_implausible_jump_is_stored_and_flagged(crew: User, metres: float, is_implausible: bool) -> None:
    start = now() - timedelta(seconds=60)
    record(crew, 1.0, 0.0, timestamp=start.isoformat())
    fix = record(crew, 1.0 + metres / 111_195, 0.0, timestamp=(start + timedelta(seconds=10)).isoformat())
    assert fix.is_implausible is is_implausible
    assert latest_lat(crew) == fix.lat


def test_delayed_fixes_sent_together_are_not_implausible(crew: User) -> None:
    record(crew, 1.0, 0.0)
    assert not record(crew, 1.0 + 60 / 111_195, 0.0).is_implausible


@pytest.mark.parametrize("unknown", [-1, -1.0, None, "fast", "NaN", {}, True])
def test_unknown_sensor_value_is_null(crew: User, unknown: Any) -> None:
    fix = record(crew, speed=unknown, heading=unknown)
    assert (fix.speed_mps, fix.heading_degrees) == (None, None)


@pytest.mark.parametrize(
    "said", ["", "yesterday", "2026-13-45T99:00:00Z", "0001-01-01T00:00:00+14:00", 17, []]
)
def test_unreadable_time_does_not_lose_the_position(crew: User, said: Any) -> None:
    fix = record(crew, timestamp=said)
    assert fix.at == fix.received_at


@pytest.mark.parametrize(
    "place",
    [
        {"lat": 90.1},
        {"lat": -91},
        {"lng": 180.5},
        {"lng": -181},
        {"lat": "north"},
        {"lat": None},
        {"lat": True},
    ],
)
def test_coordinates_outside_the_earth_are_refused(place: dict[str, Any]) -> None:
    with pytest.raises(errors.ValidationFailed) as refused:
        UpdateLocation.read({"type": "locationUpdate", "data": update(**place)})
    assert refused.value.details["field"] == f"location.{next(iter(place))}"


def test_many_positions_are_written_in_one_transaction(
    users_on_duty: dict[str, User], django_assert_max_num_queries: Any
) -> None:
    crews = [User(user_id=f"crew {n}", role="paramedic", hospital_id="hospital_001") for n in range(100)]
    User.objects.bulk_create(crews)
    Presence.objects.bulk_create([Presence(user=one, status="available") for one in crews])
    frame = {"type": "locationUpdate", "data": update()}
    heard = [ReceivedPosition(one, UpdateLocation.read(frame), now()) for one in crews for _ in range(2)]
    with django_assert_max_num_queries(14):  # SQLite takes the rows in portions
        record_all(heard)
    assert (Fix.objects.count(), Latest.objects.count()) == (200, 100)


@pytest.mark.parametrize("nowhere", [{"lat": 0.0, "lng": 0.0}, {"lat": 0, "lng": -0.0}, {"accuracy": -1}])
def test_position_of_a_phone_without_one_is_kept_and_never_current(
    crew: User, nowhere: dict[str, Any]
) -> None:
    record(crew, 1.0)
    kept = record(crew, **nowhere)
    assert kept.is_implausible
    assert not kept.is_known
    assert latest_lat(crew) == 1.0
    record(crew, 1.0001)
    assert latest_lat(crew) == 1.0001


def test_fixes_out_of_a_tunnel_do_not_move_the_marker_back(crew: User) -> None:
    start = now().replace(tzinfo=None)
    times = [start, *(start - timedelta(seconds=s) for s in (90, 60, 30)), start + timedelta(seconds=5)]
    for number, at in enumerate(times):
        record(crew, 1.0 + number / 1000, timestamp=at.isoformat())
        assert latest_lat(crew) == (1.0 if number < 4 else 1.004)
    assert [round(fix.lat, 3) for fix in Fix.objects.order_by("at")] == [1.001, 1.002, 1.003, 1.0, 1.004]


def test_end_of_summer_time_does_not_stop_the_marker(crew: User) -> None:
    start = now().replace(tzinfo=None)
    record(crew, 1.0, timestamp=start.isoformat())
    record(crew, 1.001, timestamp=(start - timedelta(minutes=59)).isoformat())
    assert latest_lat(crew) == 1.001
