"""What a phone calls a vital sign, and what it means by it.

Key names are compared without case, spaces, dashes and underscores. A value is a number, a text
that begins with one ("98 %", "37,2 °C"), or an object with a `value`. Out of what a body can do,
it counts as missing: a slip of a finger must not make a score.
"""

from __future__ import annotations

import re
from typing import Any

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
    "spo2Scale": ("spo2scale", "oxygenscale", "news2scale"),
}  # fmt: skip
_NAMES = {alias: name for name, aliases in ALIASES.items() for alias in aliases}

# What is taken for a measurement of a living body: per minute, %, mmHg, °C.
POSSIBLE: dict[str, tuple[float, float]] = {
    "respirationRate": (0, 120),
    "spo2": (30, 100),
    "systolic": (20, 350),
    "diastolic": (5, 250),
    "pulse": (0, 350),
    "temperature": (20, 46),
}
MOST_OXYGEN_LITRES = 70  # a high-flow cannula's; `oxygen: 97` is a saturation, and no flow
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
    """The readings found in `vitals`, and the keys that could not be understood.

    SpO2 scale 2 counts only where a clinician flags it (`spo2Scale: 2`).
    """
    readings: Readings = {}
    odd: list[str] = []
    for key, value in (vitals or {}).items():
        name = _NAMES.get(_plain(key))
        if name is None or value is None:
            continue
        understood = _understand(name, value)
        readings.update(understood)
        if not understood:
            odd.append(key)
    if not by_clinician:
        readings.pop("spo2Scale", None)
    return readings, odd


def _plain(text: Any) -> str:
    return re.sub(r"[\W_]", "", str(text)).lower()


def _understand(name: str, value: Any) -> Readings:
    if name == "bloodPressure":
        return _pressures(value)
    if name == "onOxygen":
        answer = _yes_or_no(value)
        return {} if answer is None else {name: answer}
    if name == "consciousness":
        level = _CONSCIOUS.get(_plain(value))
        return {name: level} if level else {}
    number = _number(name, value)
    if name == "spo2Scale":
        return {name: int(number)} if number in (1, 2) else {}
    return _possible(name, number)


def _possible(name: str, number: float | None) -> Readings:
    lowest, highest = POSSIBLE[name]
    return {name: number} if number is not None and lowest <= number <= highest else {}


def _pressures(value: Any) -> Readings:
    """ "120/80", [120, 80] or an object with both."""
    if isinstance(value, dict):
        found, _ = read_vitals({k: v for k, v in value.items() if _NAMES.get(_plain(k)) != "bloodPressure"})
        return {k: v for k, v in found.items() if k in ("systolic", "diastolic")}
    parts = value if isinstance(value, list) else str(value).split("/")
    pairs = zip(("systolic", "diastolic"), parts, strict=False)
    return {k: v for name, part in pairs for k, v in _possible(name, _number(name, part)).items()}


def _yes_or_no(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    litres = _number("onOxygen", value)  # a flow in litres a minute
    if litres is not None:
        return litres > 0 if 0 <= litres <= MOST_OXYGEN_LITRES else None
    word = _plain(value)
    return word in _YES if word in _YES or word in _NO else None


def _number(name: str, value: Any) -> float | None:
    if isinstance(value, dict):
        return _number(name, _with_unit(value))
    if isinstance(value, bool) or value is None or isinstance(value, list):
        return None
    found = re.match(r"\s*(-?\d{1,6}(?:[.,]\d{1,6})?)\s*°?\s*([a-zA-Z]*)", str(value))
    if not found:
        return None
    number = float(found[1].replace(",", "."))
    is_fahrenheit = name == "temperature" and found[2].lower() in ("f", "fahrenheit")
    return round((number - 32) / 1.8, 1) if is_fahrenheit else number


def _with_unit(value: dict[str, Any]) -> str:
    fields = {_plain(key): part for key, part in value.items()}
    return f"{fields.get('value', '')} {fields.get('unit', '')}"
