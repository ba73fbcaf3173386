"""The National Early Warning Score 2.

Source: Royal College of Physicians, "National Early Warning Score (NEWS) 2: Standardising the
assessment of acute-illness severity in the NHS", London 2017, chart 1 (the scoring system) and
chart 2 (thresholds and triggers).
"""

from __future__ import annotations

import math
from typing import Any

from emergency.vitals import Readings

# (up to and including, points); the last holds for everything above.
Steps = tuple[tuple[float, int], ...]
TABLE: dict[str, Steps] = {
    "respirationRate": ((8, 3), (11, 1), (20, 0), (24, 2), (math.inf, 3)),
    "systolic": ((90, 3), (100, 2), (110, 1), (219, 0), (math.inf, 3)),
    "pulse": ((40, 3), (50, 1), (90, 0), (110, 1), (130, 2), (math.inf, 3)),
    "temperature": ((35.0, 3), (36.0, 1), (38.0, 0), (39.0, 1), (math.inf, 2)),
}
SPO2_SCALE_1: Steps = ((91, 3), (93, 2), (95, 1), (math.inf, 0))
# Scale 2 is for hypercapnic respiratory failure with a target of 88–92 %, where a clinician says so.
SPO2_SCALE_2_ON_AIR: Steps = ((83, 3), (85, 2), (87, 1), (math.inf, 0))
SPO2_SCALE_2_ON_OXYGEN: Steps = ((83, 3), (85, 2), (87, 1), (92, 0), (94, 1), (96, 2), (math.inf, 3))
ON_OXYGEN_POINTS = 2
NOT_ALERT_POINTS = 3

PARAMETERS = (
    "respirationRate", "spo2", "onOxygen", "systolic", "pulse", "consciousness", "temperature",
)  # fmt: skip


def news2(readings: Readings) -> dict[str, Any] | None:
    """`{score, band, complete, parameters}`; None where nothing is known.

    `parameters` has the value and the points of each, null for one that is missing. With one
    missing `complete` is false, and score and band are the least it can be.
    """
    points = {name: _points(name, readings) for name in PARAMETERS}
    known = [each for each in points.values() if each is not None]
    if not known:
        return None
    score = sum(known)
    return {
        "score": score,
        "band": band(score, max(known)),
        "complete": len(known) == len(PARAMETERS),
        "parameters": {
            name: None if each is None else {"value": readings[name], "points": each}
            for name, each in points.items()
        },
    }


def band(score: int, highest_points: int) -> str:
    """7 and more is high, 5 and 6 medium; less is low, unless a single parameter scores 3."""
    if score >= 7:
        return "high"
    if score >= 5:
        return "medium"
    return "lowMedium" if highest_points == 3 else "low"


def _points(name: str, readings: Readings) -> int | None:
    """None where it is missing; for SpO2 on scale 2 also where nobody said air or oxygen and it matters."""
    value = readings.get(name)
    if value is None:
        return None
    if name == "onOxygen":
        return ON_OXYGEN_POINTS if value else 0
    if name == "consciousness":
        return 0 if value == "A" else NOT_ALERT_POINTS
    if name == "spo2":
        return _spo2_points(value, readings)
    return _step(TABLE[name], round(value, 1) if name == "temperature" else _whole(value))


def _spo2_points(value: float, readings: Readings) -> int | None:
    if readings.get("spo2Scale") != 2:
        return _step(SPO2_SCALE_1, _whole(value))
    on_oxygen = readings.get("onOxygen")
    if on_oxygen is None and value > 92:
        return None
    return _step(SPO2_SCALE_2_ON_OXYGEN if on_oxygen else SPO2_SCALE_2_ON_AIR, _whole(value))


def _whole(value: float) -> int:
    """The chart knows whole numbers; a half counts up."""
    return math.floor(value + 0.5)


def _step(steps: Steps, value: float) -> int:
    return next(points for highest, points in steps if value <= highest)
