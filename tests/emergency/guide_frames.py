"""The guide's client, as strict as Dart: a frame that does not fit its model is lost without a trace."""

from __future__ import annotations

import math
from typing import Any

Frame = dict[str, Any]

REQUIRED = (
    "emergencyId", "patientId", "hospitalId", "condition", "priority", "status", "timestamp", "requestedBy",
    "requestedByRole",
)  # fmt: skip
NULLABLE = ("patientName", "patientPhone", "description", "assignedTo", "assignedRole", "estimatedArrival")


def emergency_request(json: Frame) -> Frame:
    """`EmergencyRequest.fromJson`: raises TypeError where Dart would throw."""
    for key in REQUIRED:
        _must(isinstance(json[key], str), key, json[key])
    for key in NULLABLE:
        _must(json[key] is None or isinstance(json[key], str), key, json[key])
    _must(json["vitals"] is None or isinstance(json["vitals"], dict), "vitals", json["vitals"])
    place = json["location"]
    for key in ("lat", "lng"):
        _must(isinstance(place[key], float) and math.isfinite(place[key]), key, place[key])
    _must(place["address"] is None or isinstance(place["address"], str), "address", place["address"])
    return json


def alert(frame: Frame) -> Frame:
    """An alert as both of the guide's clients read it: under `data`, and flat."""
    assert frame["type"] == "emergencyAlert"
    emergency_request(frame)
    return emergency_request(frame["data"])


def _must(fits: bool, key: str, value: Any) -> None:
    if not fits:
        raise TypeError(f"{key} is {value!r}")


def create_emergency_request(**given: Any) -> Frame:
    """The guide's `createEmergencyRequest`: what is not given goes out as an explicit null."""
    fields = {
        "patientId": "patient_123",
        "patientName": "Pat Meadow",
        "patientPhone": "+15550100",
        "hospitalId": "hospital_001",
        "condition": "Chest pain",
        "description": None,
        "priority": "high",
        "timestamp": "2026-11-22T09:15:00.123456",
        "vitals": None,
        **given,
    }
    fields.setdefault("location", {"lat": 37.7749, "lng": -122.4194, "address": None})
    return fields


# "Common Test Messages" of the guide, word for word.
TEST_EMERGENCY = {
    "patientId": "patient_123",
    "patientName": "Test Patient",
    "hospitalId": "hospital_001",
    "location": {"lat": 37.7749, "lng": -122.4194},
    "condition": "Test emergency",
    "priority": "high",
    "timestamp": "2024-01-01T12:00:00.000Z",
}


def respond(emergency_id: str, action: str, **given: Any) -> Frame:
    """The guide's `respondToEmergency`."""
    return {
        "emergencyId": emergency_id,
        "action": action,
        "estimatedArrival": None,
        "responseNotes": None,
        "rejectionReason": None,
        "timestamp": "2026-11-22T09:15:07.500",
        **given,
    }


def update_status(emergency_id: str, status: str, **given: Any) -> Frame:
    """The guide's `updateEmergencyStatus`."""
    return {
        "emergencyId": emergency_id,
        "status": status,
        "notes": None,
        "vitals": None,
        "completionDetails": None,
        "timestamp": "2026-11-22T09:20:00.000",
        **given,
    }
