"""Positions in the admin site: of the own hospital, to be read only, and reading one is recorded."""

from __future__ import annotations

import pytest
from django.test import Client

from hplus.accounts.models import User
from location import actions
from location.messages import UpdateLocation
from location.models import Fix, PositionAccess
from location.recording import record
from tests.location.positions import update

PAGES = ["latest", "fix", "grant", "inquiry", "positionaccess"]


@pytest.fixture
def site(users_on_duty: dict[str, User], client: Client) -> Client:
    """Signed in as the admin of hospital_001; paramedics of both hospitals are on the map."""
    for crew in ("paramedic_456", "paramedic_002"):
        record(users_on_duty[crew], UpdateLocation.read({"data": update(12.3456, 65.4321)}))
    actions.open_grant("matter 1", "patient_123", to_hospital="hospital_001", why="needs help")
    actions.open_grant("matter 2", "test_user", to_hospital="hospital_002", why="needs help")
    client.force_login(users_on_duty["admin_001"])
    return client


@pytest.mark.parametrize("page", PAGES)
def test_each_location_page_opens(site: Client, page: str) -> None:
    assert site.get(f"/admin/location/{page}/").status_code == 200
    assert site.get(f"/admin/location/{page}/add/").status_code == 403


def test_lists_show_the_own_hospital_and_no_coordinates(site: Client) -> None:
    shown = site.get("/admin/location/latest/").content.decode()
    assert "Kit Harbor" in shown
    assert "Jo Field" not in shown
    assert "12.3456" not in shown
    grants = site.get("/admin/location/grant/").content.decode()
    assert "Pat Meadow" in grants
    assert "Terry Test" not in grants


def test_opening_a_position_is_recorded(site: Client) -> None:
    assert b"12.3456" in site.get("/admin/location/latest/paramedic_5F456/change/").content
    reading = PositionAccess.objects.get()
    assert (reading.reader_id, reading.subject_id, reading.why) == (
        "admin_001",
        "paramedic_456",
        "admin site",
    )
    foreign = Fix.objects.get(user="paramedic_002")
    assert site.get(f"/admin/location/fix/{foreign.pk}/change/").status_code == 302
    assert PositionAccess.objects.count() == 1


def test_location_admin_is_read_only(site: Client, users_on_duty: dict[str, User]) -> None:
    fix = Fix.objects.get(user="paramedic_456")
    assert site.post(f"/admin/location/fix/{fix.pk}/change/", {"lat": 1}).status_code == 403
    assert site.post(f"/admin/location/fix/{fix.pk}/delete/", {"post": "yes"}).status_code == 403
    site.force_login(users_on_duty["doctor_123"])
    assert site.get("/admin/location/latest/").status_code == 302
