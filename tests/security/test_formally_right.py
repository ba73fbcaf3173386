"""What is formally right and can't be true: kept as sent, named in `warnings`, never shown as current."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from emergency.messages import RequestHelp
from emergency.models import Emergency
from emergency.news2 import news2
from emergency.status import STAMPS, Phase, is_before
from emergency.vitals import read_vitals
from hplus import errors
from hplus.protocol import texts
from tests.security.test_numbers import CALL
from tests.servers import ThreadServer

INVISIBLE = ["\u200b", "\u200b \ufeff", "\u2060\u00ad", "\u3164", "\u2800\u2800", "\u202e", "\ufe0f", "\x01"]
VISIBLE = ["a", ".", "é", "\u200ba", "👍", "\U0001fae8", "字", "١"]
PRIORITIES = {"hıgh": "high", "HİGH": "high", "CRİTİCAL": "critical", "medıum": "medium", " High ": "high"}


async def test_call_from_nowhere_is_warned_of_and_amended_by_a_place(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        call = {**CALL, "location": {"lat": 0, "lng": 0}, "priority": "hıgh"}
        emergency_id = (await patient.ask("emergencyRequest", **call))["data"]["emergencyId"]
        alert = (await doctor.expect("emergencyAlert"))["data"]
        assert {"location", "priority"} <= set(alert["warnings"])
        assert alert["priority"] == "high"
        await doctor.ask("emergencyResponse", emergencyId=emergency_id, action="accept")
        for place, code in (({"lat": 0, "lng": 0}, "VALIDATION_ERROR"), ({"lat": 37, "lng": -122}, None)):
            changes = {"changes": {"location": place}, "reason": "found"}
            answer = await patient.ask("emergencyAmend", emergencyId=emergency_id, **changes)
            assert answer.get("code") == code
    row = await Emergency.objects.aget(pk=emergency_id)
    assert "location" not in row.warnings
    assert row.original["priority"] == "hıgh"


async def test_phase_goes_back_only_by_a_correction(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        emergency_id = (await patient.ask("emergencyRequest", **CALL))["data"]["emergencyId"]
        await doctor.ask("emergencyResponse", emergencyId=emergency_id, action="accept")
        about = {"emergencyId": emergency_id, "status": "in_progress"}
        await doctor.ask("emergencyStatusUpdate", **about, phase="transporting")
        back = await doctor.ask("emergencyStatusUpdate", **about, phase="onScene")
        assert back["data"]["warnings"] == ["phase"]
        row = await Emergency.objects.aget(pk=emergency_id)
        assert (row.phase, row.on_scene_at) == ("transporting", None)
        right = await doctor.ask("emergencyStatusUpdate", **about, phase="onScene", correction=True)
        assert "warnings" not in right["data"]
    row = await Emergency.objects.aget(pk=emergency_id)
    assert (row.phase, row.transporting_at) == ("onScene", None)
    assert row.on_scene_at is not None


@given(phases=st.lists(st.sampled_from(Phase.values), max_size=12))
def test_times_of_phases_after_the_present_one_are_never_set(phases: list[str]) -> None:
    emergency = Emergency()
    for phase in phases:
        emergency.stamp(phase, timezone.now())
        for other, column in STAMPS.items():
            assert getattr(emergency, column) is None or not is_before(phase, other)


@pytest.mark.parametrize(
    ("vitals", "unreadable"),
    [
        ({"systolic": 80, "diastolic": 120}, {"systolic", "diastolic"}),
        ({"bloodPressure": "80/120"}, {"bloodPressure"}),
        ({"spo2": 21}, {"spo2"}),
        ({"spO2": "21 %"}, {"spO2"}),
        ({"temperature": 98.6}, {"temperature"}),
        ({"temperature": 1e308}, {"temperature"}),
        ({"pulse": -1}, {"pulse"}),
    ],
)
def test_vital_sign_that_cannot_be_is_warned_of_and_not_scored(
    vitals: dict[str, Any], unreadable: set[str]
) -> None:
    readings, keys = read_vitals(vitals)
    assert set(keys) == unreadable
    assert news2(readings) is None


@given(spelt=st.sampled_from(sorted(PRIORITIES)))
def test_priority_of_a_turkish_keyboard_is_read(spelt: str) -> None:
    request = RequestHelp.read({"type": "emergencyRequest", **CALL, "priority": spelt})
    assert request.priority == PRIORITIES[spelt]


async def test_message_without_a_visible_character_is_refused(server: ThreadServer) -> None:
    to = {"receiverId": "doctor_123", "hospitalId": "hospital_001"}
    async with server.phone("patient_123", "patient") as patient:
        sent = (await patient.ask("sendMessage", **to, message="hello"))["data"]
        for text in INVISIBLE:
            answer = await patient.ask("sendMessage", **to, message=text)
            assert answer["details"]["field"] == "message", text
            edited = await patient.ask("editMessage", messageId=sent["messageId"], message=text)
            assert edited["details"]["field"] == "message", text
            called = await patient.ask("emergencyRequest", **{**CALL, "condition": text})
            assert called["details"]["field"] == "condition", text
        for text in VISIBLE:
            assert (await patient.ask("sendMessage", **to, message=text))["type"] == "ack", text


@given(text=st.text(st.characters(categories=["L", "N", "P", "Sc", "Sm"]), min_size=1))
def test_any_text_with_a_glyph_is_visible(text: str) -> None:
    assert texts.has_visible(text) or set(text) <= texts.BLANK_SIGNS


@pytest.mark.parametrize("field", ["condition"])
def test_no_blank_text_stands_for_a_reason(field: str) -> None:
    for text in INVISIBLE:
        with pytest.raises(errors.ValidationFailed):
            RequestHelp.read({"type": "emergencyRequest", **CALL, field: text})
