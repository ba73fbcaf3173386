"""What leaves of an emergency has bounded length; the whole is kept, and read over HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from hplus.protocol.wire import canonical

# Characters that leave, by field.
TEXTS = {
    "condition": 2_000,
    "description": 4_000,
    "access_notes": 2_000,
    "notes": 4_000,
    "response_notes": 2_000,
    "rejection_reason": 2_000,
    "address": 500,
    "patient_name": 200,
    "caller_name": 200,
    "caller_relation": 200,
    "estimated_arrival": 200,
    "patient_phone": 50,
    "callback_phone": 50,
}
OBJECTS = ("vitals", "completion_details")
MAX_KEYS = 50
KEY_CHARACTERS = 100
VALUE_CHARACTERS = 200
MAX_WARNINGS = 50
CUT = "…"


def bounded(name: str, value: Any) -> Any:
    """Return the value of this field as it leaves, shortened where it is too long."""
    if isinstance(value, str) and name in TEXTS:
        return shortened(value, TEXTS[name])
    if isinstance(value, dict) and name in OBJECTS:
        return _bounded_object(value)
    return value


def bounded_fields(fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields as they leave, and the whole values of those that were shortened."""
    leaving = {name: bounded(name, value) for name, value in fields.items()}
    return leaving, {name: value for name, value in fields.items() if leaving[name] != value}


def bounded_warnings(names: Iterable[str]) -> list[str]:
    return [shortened(name, KEY_CHARACTERS) for name in islice(names, MAX_WARNINGS)]


def shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + CUT


def _bounded_object(value: dict[str, Any]) -> dict[str, Any]:
    kept = list(value.items())[:MAX_KEYS]
    return {shortened(key, KEY_CHARACTERS): _bounded_value(inner) for key, inner in kept}


def _bounded_value(value: Any) -> Any:
    """Return a short value as it is; the text of a long one, shortened."""
    text = value if isinstance(value, str) else canonical({"": value}).decode()[4:-1]
    return value if len(text) <= VALUE_CHARACTERS else shortened(text, VALUE_CHARACTERS)
