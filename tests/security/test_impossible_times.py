"""A time that leaves the calendar in UTC, or makes no sense, is refused where it comes in."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import NoReverseMatch
from hypothesis import given
from hypothesis import strategies as st

from emergency.messages import SetDiversion
from hplus import errors
from hplus.accounts.models import Hospital, User
from hplus.protocol import times
from location.visible_position import parse_zoned
from tests.admin_site import admin_client_of, page
from tests.board.test_emergency_admin import HOSPITAL, KEPT
from tests.servers import ThreadServer

OUTSIDE = [
    "9999-12-31T23:59:59-05:00",
    "0001-01-01T00:00:00+14:00",
    "1899-12-31T23:59:59Z",
    "2201-01-01T00:00:00Z",
]
NOT_AHEAD = ["2001-09-09T01:46:40Z", "2199-01-01T00:00:00Z"]
FILTERS = (
    {"at__year": "9" * 30},
    {"at__year": "9999"},
    {"at__year": "0"},
    {"at__year": "2026", "at__month": "99"},
    {"at__gte": OUTSIDE[0]},
    {"sent_at__year": "9" * 30},
    {"sent_at__year": "9999", "sent_at__month": "12", "sent_at__day": "31"},
    {"at_from_0": "9999-12-31", "at_to_0": "0001-01-01"},
    {"q": "a\x00b"},
    {"p": "9" * 30},
    {"o": "9" * 30},
)


async def test_diversion_until_an_impossible_time_is_refused_and_emergencies_go_on(
    server: ThreadServer,
) -> None:
    async with (
        server.phone("admin_001", "admin", "hospital_001") as chief,
        server.phone("patient_123", "patient") as patient,
    ):
        for until in (*OUTSIDE, *NOT_AHEAD):
            answer = await chief.ask("hospitalStatus", onDiversion=True, until=until)
            assert (answer.get("code"), answer["details"]["field"]) == ("VALIDATION_ERROR", "until"), until
        ended = await chief.ask("hospitalStatus", onDiversion=False, until=NOT_AHEAD[0])
        assert ended["type"] == "ack"
        soon = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
        assert (await chief.ask("hospitalStatus", onDiversion=True, until=soon))["type"] == "ack"
        called = await patient.ask(
            "emergencyRequest",
            patientId="patient_123",
            hospitalId="hospital_001",
            location={"lat": 37.0, "lng": -122.0},
            condition="Chest pain",
            priority="high",
        )
        assert called["type"] == "ack"


def test_diversion_form_refuses_impossible_times(admin_client: Client) -> None:
    for day in ("9999-12-31", "2001-09-09"):
        fields = {"is_on_diversion": "on", "diversion_until_0": day, "diversion_until_1": "23:59"}
        assert admin_client.post(HOSPITAL, {**KEPT, **fields}).status_code in (200, 302)
        assert Hospital.objects.get(pk="hospital_001").diversion_until is None


ZONES = [timezone(timedelta(hours=hours)) for hours in range(-12, 15)]


@given(moment=st.datetimes(timezones=st.sampled_from(ZONES)))
def test_a_time_is_read_in_utc_or_refused(moment: datetime) -> None:
    fields = {"onDiversion": False, "until": moment.isoformat()}
    if not 1900 < moment.year < 2200:
        with contextlib.suppress(errors.ValidationFailed):
            SetDiversion.read(fields)
        return
    request = SetDiversion.read(fields)
    assert request.until is not None
    assert times.EARLIEST <= request.until < times.LATEST
    assert request.until.utcoffset() == timedelta(0)


@pytest.mark.parametrize("text", OUTSIDE)
def test_fix_of_an_impossible_time_is_judged_by_its_arrival(text: str) -> None:
    assert parse_zoned(text) is None


def _lists() -> list[str]:
    found = []
    for model in admin.site._registry:
        try:
            found.append(page(model, "changelist"))
        except NoReverseMatch:
            continue
    return found


def test_no_filter_of_the_admin_site_is_a_server_error(users: dict[str, User]) -> None:
    client = admin_client_of(users["admin_001"], raise_request_exception=False)
    for address in _lists():
        for filters in FILTERS:
            answer: Any = client.get(f"{address}?{urlencode(filters)}", follow=True)
            assert answer.status_code < 500, (address, filters)


def test_no_ticked_id_of_the_admin_site_is_a_server_error(users: dict[str, User]) -> None:
    client = admin_client_of(users["admin_001"], raise_request_exception=False)
    for address in _lists():
        for odd in ("a\x00b", "9" * 30, "no-uuid"):
            answer = client.post(address, {"action": "export_csv", "_selected_action": odd, "index": "0"})
            assert answer.status_code < 500, (address, odd)
