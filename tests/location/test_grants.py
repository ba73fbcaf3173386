"""Grants: what the domains above open and close, and what they may look up."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from hplus.accounts.models import User
from hplus.realtime.actions import action
from location import actions
from location.geo import EARTH_RADIUS_M, distance_m, eta_seconds
from location.messages import UpdateLocation
from location.models import Fix, Grant, Latest, PositionAccess, locatable_by
from location.recording import ReceivedPosition, record_all
from tests.location.positions import MATTER, OTHER_MATTER, update

pytestmark = pytest.mark.usefixtures("users_on_duty")
HELP: dict[str, Any] = {"to_hospital": "hospital_001", "why": "needs help"}


def record(user: User, *args: Any, seconds_ago: float = 0, **kwargs: Any) -> None:
    request = UpdateLocation.read({"type": "locationUpdate", "data": update(*args, **kwargs)})
    record_all([ReceivedPosition(user, request, timezone.now() - timedelta(seconds=seconds_ago))])


def those_who_see(subject_id: str) -> set[str]:
    return {user.pk for user in User.objects.all() if locatable_by(user).filter(pk=subject_id).exists()}


STAFF_OF_001 = {
    "doctor_123", "doctor_456", "paramedic_456", "paramedic_789", "nurse_001", "admin_001",
    "receptionist_001", "technician_001", "pharmacist_001",
}  # fmt: skip


def test_patient_is_visible_to_the_hospital_while_the_grant_is_open() -> None:
    nobody_else = {"patient_123", "root"}
    assert those_who_see("patient_123") == nobody_else
    actions.open_grant(MATTER, "patient_123", **HELP)
    assert those_who_see("patient_123") == nobody_else | STAFF_OF_001
    actions.close_grants(MATTER, "completed")
    assert those_who_see("patient_123") == nobody_else


def test_assigned_crew_is_visible_to_the_requester() -> None:
    assert those_who_see("paramedic_456") == STAFF_OF_001 | {"root"}
    actions.open_grant(MATTER, "paramedic_456", to_user="test_user", why="crew")
    assert those_who_see("paramedic_456") == STAFF_OF_001 | {"root", "test_user"}
    assert those_who_see("paramedic_789") == STAFF_OF_001 | {"root"}


@pytest.mark.parametrize(
    "change", [{"is_active": False}, {"role": "doctor"}, {"hospital_id": "hospital_002"}]
)
def test_paramedic_who_left_is_not_visible(users_on_duty: dict[str, User], change: dict[str, Any]) -> None:
    doctor = users_on_duty["doctor_123"]
    record(users_on_duty["paramedic_456"])
    assert Latest.objects.visible_to(doctor).count() == Fix.objects.visible_to(doctor).count() == 1
    User.objects.filter(pk="paramedic_456").update(**change)
    assert not Latest.objects.visible_to(doctor).exists()
    assert not Fix.objects.visible_to(doctor).exists()
    assert not Fix.objects.visible_to(users_on_duty["doctor_002"]).exists()


def test_track_of_a_reason_closes_with_its_grants(users_on_duty: dict[str, User]) -> None:
    crew, patient = users_on_duty["paramedic_456"], users_on_duty["patient_123"]
    record(crew, 1.0)  # before: no business of the patient's
    actions.open_grant(MATTER, "paramedic_456", to_user="patient_123", why="crew")
    record(crew, 2.0)
    seen = [(user, list(Fix.objects.visible_to(users_on_duty[user]).values_list("lat", flat=True)))
            for user in ("patient_123", "test_user", "doctor_123", "doctor_002")]  # fmt: skip
    assert seen == [("patient_123", [2.0]), ("test_user", []), ("doctor_123", [1.0]), ("doctor_002", [])]
    actions.close_grants(MATTER, "completed")
    assert not Fix.objects.visible_to(patient).exists()
    assert [fix.lat for fix in actions.read_track(patient, MATTER)] == [2.0]


def test_opening_or_closing_a_grant_twice_changes_nothing() -> None:
    for _ in range(2):
        actions.open_grant(MATTER, "patient_123", **HELP)
    actions.open_grant(MATTER, "patient_123", to_user="test_user", why="requester")
    assert Grant.objects.open().count() == 2
    for reason in ("completed", "cancelled"):
        actions.close_grants(MATTER, reason)
    assert set(Grant.objects.values_list("close_reason", flat=True)) == {"completed"}
    actions.open_grant(MATTER, "patient_123", **HELP)
    assert Grant.objects.open().count() == 1


def test_grant_of_one_subject_can_be_closed_alone() -> None:
    actions.open_grant(MATTER, "patient_123", **HELP)
    actions.open_grant(MATTER, "paramedic_456", to_user="patient_123", why="crew")
    actions.close_grants(MATTER, "released", subject_id="paramedic_456")
    assert Grant.objects.open().get().subject_id == "patient_123"


def test_destination_applies_to_every_grant_of_the_subject() -> None:
    actions.open_grant(MATTER, "paramedic_456", to_user="test_user", why="crew", destination=(1.0, 2.0))
    actions.open_grant(MATTER, "paramedic_456", to_user="patient_123", why="crew")
    actions.open_grant(OTHER_MATTER, "paramedic_456", to_user="patient_123", why="crew")
    assert [grant.destination for grant in Grant.objects.all()] == [(1.0, 2.0), (1.0, 2.0), None]
    actions.open_grant(MATTER, "paramedic_456", to_user="test_user", why="crew", destination=(3.0, 4.0))
    assert [grant.destination for grant in Grant.objects.all()] == [(3.0, 4.0), (3.0, 4.0), None]


@pytest.mark.parametrize(
    "grant",
    [
        {"subject_id": "never seen here", **HELP},
        {"subject_id": "patient_123", "to_user": "never seen here", "why": "x"},
        {"subject_id": "patient_123", "to_hospital": "hospital_999", "why": "x"},
        {"subject_id": "patient_123", "to_user": "patient_123", "why": "x"},
    ],
    ids=["subject", "person", "hospital", "oneself"],
)
def test_grant_to_or_about_an_unknown_user_is_ignored(grant: dict[str, Any]) -> None:
    actions.open_grant(MATTER, **grant)
    assert not Grant.objects.exists()


def test_grant_is_rolled_back_with_the_surrounding_action() -> None:
    @action
    def change_of_mind() -> None:
        actions.open_grant(MATTER, "patient_123", **HELP)
        actions.close_grants(MATTER, "completed")
        actions.open_grant(OTHER_MATTER, "patient_123", **HELP)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        change_of_mind()
    assert not Grant.objects.exists()


def test_reason_closed_a_day_ago_counts_only_when_named(users_on_duty: dict[str, User]) -> None:
    crew = users_on_duty["paramedic_456"]
    actions.open_grant(MATTER, crew.pk, to_user="patient_123", why="crew")
    actions.close_grants(MATTER, "completed")
    record(crew, is_emergency=True)
    assert not Fix.objects.exists()
    Grant.objects.update(closed_at=timezone.now() - timedelta(hours=25))
    record(crew, emergency_id=MATTER)
    assert not Fix.objects.exists()
    record(crew, is_emergency=True)
    assert Fix.objects.get().reason_id == ""


def test_position_nobody_may_see_is_not_stored(users_on_duty: dict[str, User]) -> None:
    record(users_on_duty["patient_123"], 1.0)
    record(users_on_duty["doctor_123"], 1.0)
    assert not Fix.objects.exists()
    assert set(actions.fresh_positions(["patient_123", "doctor_123"])) == {"patient_123", "doctor_123"}
    assert those_who_see("doctor_123") == {"doctor_123", "root"}


def test_nearest_crews_come_first_and_stale_ones_are_left_out(users_on_duty: dict[str, User]) -> None:
    began = time.monotonic()
    record(users_on_duty["paramedic_456"], 0.02, 0.0)
    record(users_on_duty["paramedic_789"], 0.01, 0.0, seconds_ago=60)
    record(users_on_duty["paramedic_002"], 0.001, 0.0)
    record(users_on_duty["doctor_123"], 0.0, 0.0, seconds_ago=130)
    wanted = ["paramedic_456", "paramedic_789", "doctor_123", "nurse_001"]
    first, second = actions.nearest_users(wanted, 0.0, 0.0)
    assert (first.user_id, first.name, second.user_id) == ("paramedic_789", "Sam Ridge", "paramedic_456")
    assert first.distance_meters == pytest.approx(1111.95, abs=0.1)
    assert first.eta_seconds == 173
    assert 60 <= first.fix_age <= 61 + time.monotonic() - began


def test_old_positions_are_deleted_and_emergency_tracks_kept(users_on_duty: dict[str, User]) -> None:
    actions.open_grant(MATTER, "paramedic_789", to_user="patient_123", why="crew")
    for crew in ("paramedic_456", "paramedic_789"):
        record(users_on_duty[crew], seconds_ago=25 * 3600)
    record(users_on_duty["paramedic_002"])
    assert (actions.delete_old_fixes(), actions.delete_old_positions()) == (1, 1)
    assert set(Fix.objects.values_list("user", flat=True)) == {"paramedic_789", "paramedic_002"}
    assert set(Latest.objects.values_list("user", flat=True)) == {"paramedic_789", "paramedic_002"}


def test_access_record_cannot_be_changed_or_deleted(users_on_duty: dict[str, User]) -> None:
    actions.record_access(users_on_duty["doctor_123"], "paramedic_456", why="on duty")
    actions.record_access(users_on_duty["doctor_123"], "doctor_123")
    access = PositionAccess.objects.get()
    for change in (access.save, access.delete, PositionAccess.objects.all().delete):
        with pytest.raises(TypeError):
            change()
    with pytest.raises(TypeError):
        PositionAccess.objects.all().update(why="nothing")


def test_distance_between_two_cities() -> None:
    assert distance_m((0, 0), (1, 0)) == pytest.approx(EARTH_RADIUS_M * 3.141592653589793 / 180)
    assert distance_m((0, 179.5), (0, -179.5)) == pytest.approx(distance_m((0, 0), (0, 1)))
    assert distance_m((90, 0), (-90, 77)) == pytest.approx(EARTH_RADIUS_M * 3.141592653589793)
    # London to Paris; 343.5 to 344 km in any table
    assert distance_m((51.5074, -0.1278), (48.8566, 2.3522)) == pytest.approx(343_600, abs=500)
    assert eta_seconds(0) == 0
    assert eta_seconds(9000) == 1400
