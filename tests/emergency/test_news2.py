"""NEWS2 at every boundary of the Royal College's chart, and what phones call the signs."""

from __future__ import annotations

from typing import Any

import pytest

from emergency.news2 import band, news2
from emergency.vitals import read_vitals

NORMAL = {
    "respirationRate": 16,
    "spo2": 98,
    "onOxygen": False,
    "systolic": 120,
    "pulse": 70,
    "consciousness": "A",
    "temperature": 37.0,
}
CHART: dict[str, list[tuple[Any, int]]] = {
    "respirationRate": [(8, 3), (9, 1), (11, 1), (12, 0), (20, 0), (21, 2), (24, 2), (25, 3)],
    "spo2": [(91, 3), (92, 2), (93, 2), (94, 1), (95, 1), (96, 0), (100, 0)],
    "onOxygen": [(True, 2), (False, 0)],
    "systolic": [(90, 3), (91, 2), (100, 2), (101, 1), (110, 1), (111, 0), (219, 0), (220, 3)],
    "pulse": [(40, 3), (41, 1), (50, 1), (51, 0), (90, 0), (91, 1), (110, 1), (111, 2), (130, 2), (131, 3)],
    "consciousness": [("A", 0), ("C", 3), ("V", 3), ("P", 3), ("U", 3)],
    "temperature": [(35.0, 3), (35.1, 1), (36.0, 1), (36.1, 0), (38.0, 0), (38.1, 1), (39.0, 1), (39.1, 2)],
}
SCALE_2_ON_AIR = [(83, 3), (84, 2), (85, 2), (86, 1), (87, 1), (88, 0), (92, 0), (93, 0), (97, 0)]
SCALE_2_ON_OXYGEN = [*SCALE_2_ON_AIR[:7], (93, 1), (94, 1), (95, 2), (96, 2), (97, 3), (100, 3)]


@pytest.mark.parametrize(
    ("name", "value", "points"), [(name, *row) for name, rows in CHART.items() for row in rows]
)
def test_score_at_each_boundary_of_the_chart(name: str, value: Any, points: int) -> None:
    score = news2({**NORMAL, name: value})
    assert score is not None
    assert score["parameters"][name] == {"value": value, "points": points}
    assert score["score"] == points
    assert score["complete"] is True


@pytest.mark.parametrize(
    ("on_oxygen", "spo2", "points"),
    [(False, *row) for row in SCALE_2_ON_AIR] + [(True, *row) for row in SCALE_2_ON_OXYGEN],
)
def test_scale_2_depends_on_oxygen(on_oxygen: bool, spo2: int, points: int) -> None:
    score = news2({**NORMAL, "spo2": spo2, "onOxygen": on_oxygen, "spo2Scale": 2})
    assert score is not None
    assert score["parameters"]["spo2"]["points"] == points


def test_scale_2_counts_only_where_a_clinician_flags_it() -> None:
    flagged = {"spo2": 89, "spo2Scale": 2}
    by_clinician, by_patient = (read_vitals(flagged, by_clinician=who)[0] for who in (True, False))
    assert news2({**NORMAL, **by_clinician})["score"] == 0  # type: ignore[index]
    assert news2({**NORMAL, **by_patient})["score"] == 3  # type: ignore[index]


@pytest.mark.parametrize(
    ("score", "highest", "expected"),
    [(0, 0, "low"), (4, 2, "low"), (3, 3, "lowMedium"), (4, 3, "lowMedium"), (5, 2, "medium"),
     (5, 3, "medium"), (6, 2, "medium"), (7, 3, "high"), (20, 3, "high")],
)  # fmt: skip
def test_bands_and_single_parameter_rule(score: int, highest: int, expected: str) -> None:
    assert band(score, highest) == expected


@pytest.mark.parametrize("missing", sorted(NORMAL))
def test_missing_parameter_makes_the_score_incomplete(missing: str) -> None:
    score = news2({name: value for name, value in NORMAL.items() if name != missing})
    assert score is not None
    assert score["complete"] is False
    assert score["parameters"][missing] is None


def test_no_vitals_give_no_score() -> None:
    assert news2({}) is None


def test_vital_signs_are_read_under_the_names_phones_use() -> None:
    vitals = {
        "Heart Rate": "118 bpm",
        "resp_rate": 22.0,
        "bp": "98/60",
        "oxygenSaturation": {"value": 92, "unit": "%"},
        "temp": "37,5 °C",
        "AVPU": "Verbal",
        "supplemental-oxygen": "2 l/min",
        "bloodGroup": "A+",
    }
    readings, odd = read_vitals(vitals)
    assert readings == {
        "pulse": 118,
        "respirationRate": 22,
        "systolic": 98,
        "diastolic": 60,
        "spo2": 92,
        "temperature": 37.5,
        "consciousness": "V",
        "onOxygen": True,
    }
    assert odd == []
    assert read_vitals({"temperature": "98.6 F"})[0] == {"temperature": 37.0}
    assert read_vitals({"bloodPressure": {"systolic": 120, "diastolic": 80}})[0] == {
        "systolic": 120,
        "diastolic": 80,
    }
    own_thread = {
        "blood_pressure_systolic": 120,
        "bloodPressureDiastolic": 80,
        "pulseOx": "97%",
        "respiration": 16,
    }
    assert read_vitals(own_thread) == (
        {"systolic": 120, "diastolic": 80, "spo2": 97, "respirationRate": 16},
        [],
    )
    for said, is_on in (("room air", False), (0, False), (4, True), ("15 l/min", True)):
        assert read_vitals({"oxygen": said})[0] == {"onOxygen": is_on}


@pytest.mark.parametrize(
    ("key", "value"),
    [("pulse", 1200), ("spo2", 0.97), ("temp", 98.6), ("hr", "fast"), ("avpu", "sleepy"), ("pulse", True),
     ("bp", "high"), ("pulse", [70]), ("spo2Scale", 3), ("oxygen", "maybe"),
     ("oxygen", 97), ("supplementalO2", -1), ("oxygen", "97 %"), ("spo2", "21 %"), ("spo2", "12 kPa"),
     ("temp", "310 K"), ("temperatureF", "37.0 C F"), ("bp", "60/98"), ("fio2", 5), ("pulse", "72 mmHg"),
     ("consciousness", "GCS 8")],
)  # fmt: skip
def test_impossible_vital_is_ignored_and_named(key: str, value: Any) -> None:
    assert read_vitals({key: value}, by_clinician=True) == ({}, [key])


@pytest.mark.parametrize(
    ("key", "value", "reading"),
    [("temperature", "100.4 °F", {"temperature": 38.0}), ("temperatureF", 98.6, {"temperature": 37.0}),
     ("bp", "16/10.6 kPa", {"systolic": 120.0, "diastolic": 79.5}), ("systolicKpa", 16, {"systolic": 120.0}),
     ("bp", {"systolic": 16, "diastolic": 10, "unit": "kPa"}, {"systolic": 120.0, "diastolic": 75.0}),
     ("fio2", 0.21, {"onOxygen": False}), ("FiO2", "28 %", {"onOxygen": True}),
     ("oxygen", "21 %", {"onOxygen": False}), ("oxygen", "40%", {"onOxygen": True})],
)  # fmt: skip
def test_unit_is_converted(key: str, value: Any, reading: dict[str, Any]) -> None:
    assert read_vitals({key: value}) == (reading, [])


@pytest.mark.parametrize(
    "vitals", [{"systolic": 120, "bp": "80/40"}, {"systolic": 60, "diastolic": 98}, {"pulse": 70, "hr": 170}]
)
def test_contradicting_values_are_not_scored_and_named(vitals: dict[str, Any]) -> None:
    readings, unreadable = read_vitals(vitals)
    assert not {"systolic", "pulse"} & set(readings)
    assert unreadable == list(vitals)


@pytest.mark.parametrize(
    ("name", "value", "points"),
    [("respirationRate", 20.5, 2), ("respirationRate", 8.5, 3), ("spo2", 95.5, 1), ("spo2", 91.4, 3),
     ("systolic", 219.5, 3), ("systolic", 90.4, 3), ("pulse", 90.5, 1), ("pulse", 50.5, 1),
     ("temperature", 35.05, 3), ("temperature", 36.04, 1), ("temperature", 38.06, 1),
     ("temperature", 39.02, 2)],
)  # fmt: skip
def test_value_between_two_bands_counts_as_the_worse(name: str, value: float, points: int) -> None:
    score = news2({**NORMAL, name: value})
    assert score is not None
    assert score["score"] == points


def test_incomplete_score_has_no_band_until_it_is_high() -> None:
    low = news2({"pulse": 135})
    assert low is not None
    assert (low["score"], low["band"], low["complete"]) == (3, None, False)
    high = news2({"pulse": 135, "systolic": 80, "spo2": 90})
    assert high is not None
    assert (high["score"], high["band"], high["complete"]) == (9, "high", False)


@pytest.mark.parametrize("reason", ["age", "pregnancy"])
def test_score_of_a_child_or_in_pregnancy_is_not_applicable(reason: str) -> None:
    assert news2(NORMAL, not_applicable=reason) == {
        "score": None, "band": None, "complete": False, "notApplicable": reason,
    }  # fmt: skip
    assert news2({}, not_applicable=reason) is None
