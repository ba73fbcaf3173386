"""Numbers that no field holds: null with a warning in a call for help, refused elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emergency.messages import RequestHelp, UpdateStatus
from emergency.models import Emergency
from hplus import errors
from hplus.protocol import numbers, wire
from tests.api import Api
from tests.servers import ThreadServer

CALL = {
    "patientId": "patient_123",
    "hospitalId": "hospital_001",
    "location": {"lat": 37.0, "lng": -122.0},
    "condition": "Chest pain",
    "priority": "high",
}
ODD = ["1e400", "NaN", "-Infinity", "1e308", "1e-300", "9" * 50, "99999999999999999"]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def call_text(number: str) -> str:
    fields = json.dumps({"type": "emergencyRequest", "requestId": "r", **CALL})
    return f'{fields[:-1]}, "vitals": {{"pulse": {number}, "spo2": 97}}, "patientAge": {number}}}'


async def test_odd_number_in_a_call_for_help_becomes_null_and_a_warning(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as phone:
        for number in ODD:
            await phone.send_text(call_text(number))
            answer = await phone.expect_that(lambda frame: frame.get("requestId") == "r", number)
            assert answer["type"] == "ack", (number, answer)
        created = (await phone.expect("emergencyCreated"))["data"]
        assert created["vitals"] == {"pulse": None, "spo2": 97}
        assert {"patientAge", "vitals.pulse"} <= set(created["warnings"])
        assert created["news2"]["parameters"]["pulse"] is None
    first = await Emergency.objects.order_by("requested_at").afirst()
    assert first is not None
    assert first.original["vitals"]["pulse"] == "1e400"


async def test_odd_number_in_a_call_for_help_over_http_becomes_null(server: ThreadServer) -> None:
    async with Api(server, "patient_123") as patient:
        content = call_text("1e400").replace('"type": "emergencyRequest", ', "")
        headers = {"Content-Type": "application/json"}
        answer = await patient.post("emergencies/", content=content, headers=headers)
        assert answer.status_code == 201, answer.text


async def test_odd_number_is_refused_elsewhere_with_a_code(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        emergency_id = (await patient.ask("emergencyRequest", **CALL))["data"]["emergencyId"]
        await doctor.ask("emergencyResponse", emergencyId=emergency_id, action="accept")
        update = {"emergencyId": emergency_id, "status": "in_progress"}
        many = {f"v{n}": 1e308 for n in range(3000)}
        frames: list[tuple[str, str, dict[str, Any]]] = [
            ("emergencyStatusUpdate", "vitals", {**update, "vitals": many}),
            ("emergencyStatusUpdate", "vitals", {**update, "vitals": [1e308]}),
            ("emergencyStatusUpdate", "completionDetails", {**update, "completionDetails": {"a": [1e-200]}}),
            ("emergencyStatusUpdate", "notes", {**update, "notes": [1e308] * 100}),
            (
                "notification",
                "data",
                {"target": {"userId": "nurse_001"}, "title": "t", "body": "b", "data": {"n": 1e308}},
            ),
            (
                "sendMessage",
                "attachments.0",
                {
                    "receiverId": "nurse_001",
                    "hospitalId": "hospital_001",
                    "attachments": [{"url": "https://example.org/x", "more": [1e308]}],
                },
            ),
            (
                "sendMessage",
                "attachments",
                {
                    "receiverId": "nurse_001",
                    "hospitalId": "hospital_001",
                    "attachments": [{"url": "https://example.org/x", "more": [1e15] * 3900}],
                },
            ),
        ]
        for request_type, field, fields in frames:
            text = json.dumps({"type": request_type, "requestId": "odd", **fields}, separators=(",", ":"))
            await doctor.send_text(text.replace("1000000000000000.0", "1e15"))
            answer = await doctor.expect_that(lambda frame: frame.get("requestId") == "odd", request_type)
            assert answer["type"] == "error", (field, answer)
            assert (answer["code"], answer["details"]["field"]) == ("VALIDATION_ERROR", field), answer


@given(vitals=st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=6))
def test_what_is_kept_of_a_call_for_help_is_bounded_and_storable(vitals: dict[str, Any]) -> None:
    request = RequestHelp.read({"type": "emergencyRequest", **CALL, "vitals": vitals})
    for kept in (request.vitals, request.original):
        assert numbers.names_of_unbounded({"kept": kept}) == []
        json.dumps(kept, allow_nan=False)
    has_odd = bool(numbers.names_of_unbounded({"vitals": vitals}))
    assert bool(request.unbounded_numbers) == has_odd
    if not has_odd and vitals:
        assert request.vitals == vitals


@given(vitals=st.dictionaries(st.text(max_size=8), JSON_VALUES, min_size=1, max_size=6))
def test_status_update_takes_bounded_numbers_only(vitals: dict[str, Any]) -> None:
    fields = {"emergencyId": "e", "status": "in_progress", "vitals": vitals}
    if numbers.names_of_unbounded({"vitals": vitals}):
        with pytest.raises(errors.ValidationFailed):
            UpdateStatus.read(fields)
    else:
        assert UpdateStatus.read(fields).vitals == vitals


@given(number=st.floats() | st.integers())
def test_bounded_number_grows_little_when_it_is_stored(number: float) -> None:
    if numbers.is_bounded(number):
        assert len(f"{abs(number):.17g}".replace(".", "")) <= 24
        assert len(wire.encode({"n": number})) <= 40
