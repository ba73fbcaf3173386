"""The National Early Warning Score 2.

Source: Royal College of Physicians, "National Early Warning Score (NEWS) 2: Standardising the
assessment of acute-illness severity in the NHS", London 2017, chart 1 (the scoring system) and
chart 2 (thresholds and triggers).
"""

from __future__ import annotations

import math
from collections.abc import Collection
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

BANDS = ("low", "lowMedium", "medium", "high")
PARAMETERS = (
    "respirationRate", "spo2", "onOxygen", "systolic", "pulse", "consciousness", "temperature",
)  # fmt: skip


def news2(
    readings: Readings, *, same_set: Collection[str] | None = None, not_applicable: str | None = None
) -> dict[str, Any] | None:
    """Return `{score, band, complete, parameters}`, or None where nothing is known.

    `parameters` has the value and the points of each, null for one that is missing. The score is
    `complete` where all seven are known and in `same_set`, the names of the readings taken together
    (None: all were). An incomplete score is the least it can be, and its band is null until that is
    high. With `not_applicable` ("age", "pregnancy") score and band are null, as the chart says nothing.
    """
    points = {name: _points(name, readings) for name in PARAMETERS}
    known = {name: each for name, each in points.items() if each is not None}
    if not known:
        return None
    if not_applicable:
        return {"score": None, "band": None, "complete": False, "notApplicable": not_applicable}
    score = sum(known.values())
    together = set(known) if same_set is None else set(known) & set(same_set)
    complete = len(together) == len(PARAMETERS)
    named = band(score, max(known.values()))
    return {
        "score": score,
        "band": named if complete or named == "high" else None,
        "complete": complete,
        "parameters": {
            name: None if each is None else {"value": readings[name], "points": each}
            for name, each in points.items()
        },
    }


def outdated(news2: dict[str, Any]) -> dict[str, Any]:
    """Return the score when its observations are too old: incomplete, and without a band unless high."""
    return {**news2, "complete": False, "band": news2["band"] if news2["band"] == "high" else None}


def has_worsened(before: dict[str, Any] | None, after: dict[str, Any] | None) -> bool:
    """Whether a score reaches medium, high or 3 points in one parameter, or rises beyond that."""
    severity, score = _severity(after)
    severity_before, score_before = _severity(before)
    return severity > severity_before or (severity > 0 and score > score_before)


def _severity(news2: dict[str, Any] | None) -> tuple[int, int]:
    """0 for low up to 3 for high, and the score; also of an incomplete one."""
    if news2 is None or news2["score"] is None:
        return 0, 0
    points = [each["points"] for each in news2["parameters"].values() if each]
    return BANDS.index(band(news2["score"], max(points, default=0))), news2["score"]


def band(score: int, highest_points: int) -> str:
    """From 7 high, from 5 medium, below low; `lowMedium` where a single parameter scores 3."""
    if score >= 7:
        return "high"
    if score >= 5:
        return "medium"
    return "lowMedium" if highest_points == 3 else "low"


def _points(name: str, readings: Readings) -> int | None:
    """The points of one parameter; None where it is missing.

    On scale 2 SpO2 is missing too where its points depend on oxygen and that was not reported.
    """
    value = readings.get(name)
    if value is None:
        return None
    if name == "onOxygen":
        return ON_OXYGEN_POINTS if value else 0
    if name == "consciousness":
        return 0 if value == "A" else NOT_ALERT_POINTS
    if name == "spo2":
        return _spo2_points(value, readings)
    return _worse(TABLE[name], value, per=10 if name == "temperature" else 1)


def _spo2_points(value: float, readings: Readings) -> int | None:
    if readings.get("spo2Scale") != 2:
        return _worse(SPO2_SCALE_1, value)
    on_oxygen = readings.get("onOxygen")
    if on_oxygen is None and value > 92:
        return None
    return _worse(SPO2_SCALE_2_ON_OXYGEN if on_oxygen else SPO2_SCALE_2_ON_AIR, value)


def _worse(steps: Steps, value: float, per: int = 1) -> int:
    """The points of a value; between two bands of the chart the higher points of both.

    The chart knows whole numbers, and tenths (`per=10`) of a degree.
    """
    exact = round(value * per, 6)
    return max(_step(steps, edge(exact) / per) for edge in (math.floor, math.ceil))


def _step(steps: Steps, value: float) -> int:
    return next(points for highest, points in steps if value <= highest)
