"""Read the vital signs a phone sends into named readings with fixed units.

Key names are compared without case, spaces, dashes and underscores. A value is a number, a text of a
number and a unit ("98 %", "37,2 °C", "99 °F", "16 kPa"), or an object with a `value` and a `unit`. The
unit may also end the key (`temperatureF`). A value with an unknown unit, outside of what a living body
can have, or given twice with different results is not a reading: its key is reported as unreadable.
"""

from __future__ import annotations

import re
from typing import Any

from hplus.protocol.texts import keyword

Readings = dict[str, Any]

ALIASES: dict[str, tuple[str, ...]] = {
    "respirationRate": (
        "respirationrate", "respiratoryrate", "resprate", "respirations", "respiration", "breathingrate",
        "rr",
    ),
    "spo2": (
        "spo2", "oxygensaturation", "o2saturation", "o2sat", "sao2", "saturation", "bloodoxygen",
        "oxygenlevel", "pulseox",
    ),
    "systolic": (
        "systolic", "systolicbp", "bpsystolic", "systolicbloodpressure", "bloodpressuresystolic",
        "systolicpressure", "sbp",
    ),
    "diastolic": (
        "diastolic", "diastolicbp", "bpdiastolic", "diastolicbloodpressure", "bloodpressurediastolic",
        "diastolicpressure", "dbp",
    ),
    "pulse": ("pulse", "pulserate", "heartrate", "hr", "bpm"),
    "temperature": ("temperature", "temp", "bodytemperature", "bodytemp"),
    "onOxygen": (
        "onoxygen", "supplementaloxygen", "supplementalo2", "oxygen", "oxygentherapy", "airoroxygen",
        "oxygenflow",
    ),
    "consciousness": ("consciousness", "acvpu", "avpu", "levelofconsciousness", "consciouslevel"),
    "bloodPressure": ("bloodpressure", "bp", "nibp"),
    "fio2": ("fio2", "fractioninspiredoxygen", "fractionofinspiredoxygen", "inspiredoxygen"),
    "spo2Scale": ("spo2scale", "oxygenscale", "news2scale"),
}  # fmt: skip
_NAMES = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
# What a key reads into, where that is not the reading of its own name.
_PARTS = {"bloodPressure": ("systolic", "diastolic"), "fio2": ("onOxygen",)}

# The range of values that a living body can have: per minute, %, mmHg, °C.
POSSIBLE: dict[str, tuple[float, float]] = {
    "respirationRate": (0, 120),
    "spo2": (30, 100),
    "systolic": (20, 350),
    "diastolic": (5, 250),
    "pulse": (0, 350),
    "temperature": (20, 46),
}
MAX_OXYGEN_LITRES = 70  # of a high-flow cannula; `oxygen: 97` is a saturation, not a flow
# `oxygen: "97 %"` may be a saturation; up to here a percentage is a fraction of inspired oxygen.
MAX_OXYGEN_PERCENT = 60
AIR_PERCENT = 21
MMHG_PER_KPA = 7.50062
MAX_KEYS_KEPT = 1_000
_PER_MINUTE = {
    "",
    "min",
    "permin",
    "minute",
    "perminute",
    "bpm",
    "breathsmin",
    "breathsperminute",
    "beatsmin",
}
# reading → the units it may have, as `_plain` writes them
_UNITS: dict[str, set[str]] = {
    "respirationRate": _PER_MINUTE,
    "pulse": _PER_MINUTE,
    "spo2": {"", "%", "percent"},
    "systolic": {"", "mmhg", "torr", "kpa"},
    "diastolic": {"", "mmhg", "torr", "kpa"},
    "temperature": {"", "c", "celsius", "f", "fahrenheit"},
    "onOxygen": {
        "",
        "l",
        "lmin",
        "lpm",
        "litres",
        "liters",
        "litresmin",
        "litersmin",
        "%",
        "percent",
        "litresperminute",
    },
    "fio2": {"", "%", "percent"},
    "spo2Scale": {""},
}
_KEY_UNITS = ("fahrenheit", "celsius", "percent", "mmhg", "kpa", "lpm", "f", "c")
# A = alert, C = new confusion, V = responds to voice, P = to pain, U = unresponsive
_CONSCIOUS = {
    "a": "A", "alert": "A", "awake": "A", "conscious": "A", "normal": "A",
    "c": "C", "confusion": "C", "newconfusion": "C", "confused": "C", "newlyconfused": "C",
    "v": "V", "voice": "V", "verbal": "V", "respondstovoice": "V",
    "p": "P", "pain": "P", "respondstopain": "P",
    "u": "U", "unresponsive": "U", "unconscious": "U",
}  # fmt: skip
_YES = {"yes", "true", "oxygen", "o2", "on", "supplemental", "onoxygen"}
_NO = {"no", "false", "air", "roomair", "off", "none", "onair"}


def read_vitals(vitals: dict[str, Any] | None, *, by_clinician: bool = False) -> tuple[Readings, list[str]]:
    """Return the readings found in `vitals`, and the keys that could not be understood.

    Two keys that disagree about one reading are both reported, and so is a blood pressure whose
    systolic value is not above its diastolic one. SpO2 scale 2 counts only where a clinician flags it
    (`spo2Scale: 2`).
    """
    found: list[tuple[str, Readings]] = []
    unreadable: list[str] = []
    for key, value in (vitals or {}).items():
        name, unit = _name_of(key)
        if name is None or value is None:
            continue
        reading = _read(name, value, unit)
        found.append((key, reading))
        if set(reading) != set(_readings_of(name)):
            unreadable.append(key)
    readings, doubted = _agreed(found)
    if not by_clinician:
        readings.pop("spo2Scale", None)
    return readings, unreadable + [key for key in doubted if key not in unreadable]


def withdrawn_by(vitals: dict[str, Any], readings: Readings) -> set[str]:
    """Return the readings that `vitals` names and `readings` lacks: null, unreadable or contradictory."""
    named = {part for key in vitals if (name := _name_of(key)[0]) for part in _readings_of(name)}
    return named - set(readings)


def latest_as_sent(earlier: dict[str, Any] | None, vitals: dict[str, Any]) -> dict[str, Any]:
    """Return `vitals` on top of the earlier values, without earlier keys that name the same readings.

    At most MAX_KEYS_KEPT keys, the last ones; the timeline has them all.
    """
    renewed = {part for key in vitals if (name := _name_of(key)[0]) for part in _readings_of(name)}
    kept = {key: value for key, value in (earlier or {}).items() if not renewed & _parts_of_key(key)}
    return dict(list({**kept, **vitals}.items())[-MAX_KEYS_KEPT:])


def _parts_of_key(key: str) -> set[str]:
    name, _ = _name_of(key)
    return set(_readings_of(name)) if name else set()


def _readings_of(name: str) -> tuple[str, ...]:
    return _PARTS.get(name, (name,))


def _agreed(found: list[tuple[str, Readings]]) -> tuple[Readings, list[str]]:
    """The readings without contradiction, and the keys of the others."""
    values: dict[str, list[Any]] = {}
    for _, reading in found:
        for name, value in reading.items():
            values.setdefault(name, []).append(value)
    readings = {name: given[0] for name, given in values.items() if all(each == given[0] for each in given)}
    if "systolic" in readings and readings["systolic"] <= readings.get("diastolic", 0):
        del readings["systolic"], readings["diastolic"]
    return readings, [key for key, reading in found if not set(reading) <= set(readings)]


def _plain(text: Any) -> str:
    return re.sub(r"[^\w%]|_", "", keyword(str(text)))


def _name_of(key: str) -> tuple[str | None, str]:
    """The reading a key names, and the unit at the end of the key."""
    plain = _plain(key)
    if plain in _NAMES:
        return _NAMES[plain], ""
    for unit in _KEY_UNITS:
        name = _NAMES.get(plain.removesuffix(unit))
        if name is not None and unit in _UNITS.get(_readings_of(name)[0], ()):
            return name, unit
    return None, ""


def _read(name: str, value: Any, unit: str) -> Readings:
    if name == "bloodPressure":
        return _pressures(value, unit)
    if name == "fio2":
        is_on = _is_more_than_air(_number("fio2", value, unit))
        return {} if is_on is None else {"onOxygen": is_on}
    if name == "onOxygen":
        answer = _yes_or_no(value, unit)
        return {} if answer is None else {name: answer}
    if name == "consciousness":
        level = _CONSCIOUS.get(_plain(value))
        return {name: level} if level else {}
    number = _number(name, value, unit)
    if name == "spo2Scale":
        return {name: int(number)} if number in (1, 2) else {}
    return _possible(name, number)


def _possible(name: str, number: float | None) -> Readings:
    lowest, highest = POSSIBLE[name]
    return {name: number} if number is not None and lowest <= number <= highest else {}


def _pressures(value: Any, unit: str) -> Readings:
    """Read "120/80", "16/10.6 kPa", [120, 80] or an object with both."""
    if isinstance(value, dict):
        unit = unit or _plain(_field(value, "unit") or "")
        parts = {key: _with(each, unit) for key, each in value.items() if _name_of(key)[0] in _PRESSURES}
        return read_vitals(parts)[0]
    parts_sent = value if isinstance(value, list) else str(value).split("/")
    if not isinstance(value, list) and len(parts_sent) == 2:
        unit = unit or _unit_at_the_end(parts_sent[1])
    pairs = zip(_PRESSURES, parts_sent, strict=False)
    return {k: v for name, part in pairs for k, v in _possible(name, _number(name, part, unit)).items()}


_PRESSURES = ("systolic", "diastolic")


def _with(value: Any, unit: str) -> Any:
    return f"{value} {unit}" if unit and not isinstance(value, dict) else value


def _unit_at_the_end(text: str) -> str:
    return _plain(re.sub(r"^[\s\d.,-]*", "", text))


def _yes_or_no(value: Any, unit: str) -> bool | None:
    """Read a yes or no, a flow in litres a minute, or a percentage of inspired oxygen."""
    if isinstance(value, bool):
        return value
    number, unit = _number_and_unit(value, unit)
    if number is None:
        answer = _plain(value)
        return answer in _YES if answer in _YES or answer in _NO else None
    if unit not in _UNITS["onOxygen"]:
        return None
    if unit in ("%", "percent"):
        return _is_more_than_air(number) if number <= MAX_OXYGEN_PERCENT else None
    return number > 0 if 0 <= number <= MAX_OXYGEN_LITRES else None


def _is_more_than_air(fio2: float | None) -> bool | None:
    """Whether this fraction (0.21–1) or percentage (21–100) of inspired oxygen is above that of air."""
    if fio2 is None:
        return None
    percent = fio2 * 100 if fio2 <= 1 else fio2
    return round(percent) > AIR_PERCENT if AIR_PERCENT <= round(percent) <= 100 else None


def _number(name: str, value: Any, unit: str = "") -> float | None:
    """The value in the unit of the reading; None where it is no number or its unit is not known."""
    number, unit = _number_and_unit(value, unit)
    if number is None or unit not in _UNITS[name]:
        return None
    if unit in ("f", "fahrenheit"):
        return round((number - 32) / 1.8, 2)
    return round(number * MMHG_PER_KPA, 1) if unit == "kpa" else number


def _number_and_unit(value: Any, unit: str) -> tuple[float | None, str]:
    if isinstance(value, dict):
        unit = _plain(_field(value, "unit") or "") or unit
        value = _field(value, "value")
    if isinstance(value, bool | list | dict) or value is None:
        return None, unit
    found = re.fullmatch(r"\s*(-?\d{1,6}(?:[.,]\d{1,6})?)(?![.,]?\d)(.*)", str(value), re.DOTALL)
    if not found:
        return None, unit
    return float(found[1].replace(",", ".")), _plain(found[2]) or unit


def _field(value: dict[str, Any], wanted: str) -> Any:
    return next((part for key, part in value.items() if _plain(key) == wanted), None)
