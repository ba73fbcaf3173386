"""Convert optional fields that are not of the guide's types.

No emergency is refused for one. The row keeps what was sent; what goes out has the guide's types, because a
phone drops a frame with any other.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from hplus.protocol.numbers import is_bounded, must_be_bounded
from hplus.protocol.texts import keyword


def as_text(value: Any) -> str | None:
    """Return a text to be read: a number in digits, the parts of an object or list with commas between."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and is_bounded(value):
        return str(int(value))
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return ", ".join(text for part in parts if (text := as_text(part))) or None
    return str(value)


def as_object(value: Any) -> dict[str, Any] | None:
    """Return an object as it is; any other value goes under `asSent`, an empty one is None."""
    if isinstance(value, dict):
        return value
    return {"asSent": value} if value or (value == 0 and not isinstance(value, bool)) else None


def _bounded_text(value: Any) -> str | None:
    return as_text(must_be_bounded(value))


def as_id(value: Any, most: int) -> str | None:
    """Return a text of up to `most` characters; None for anything else."""
    text = as_text(value) if not isinstance(value, dict | list) else None
    return text if text and text.strip() and len(text) <= most else None


def as_age(value: Any) -> int | None:
    """Return whole years from 0 to 130, of a number, "7", "7 years" or "8 months"; None for anything else."""
    found = None if isinstance(value, bool) else _AGE.fullmatch(str(value))
    if not found:
        return None
    years = float(found[1].replace(",", ".")) / _PARTS_OF_A_YEAR[found[2].lower()]
    return int(years) if years <= OLDEST_YEARS else None


def as_sex(value: Any) -> str | None:
    """Return female, male, other or unknown; None for anything else."""
    text = keyword(value) if isinstance(value, str) else ""
    return _SEXES.get(text)


def as_yes_or_no(value: Any) -> bool | None:
    """Return a boolean, also of a text like "yes"; None for anything else."""
    if isinstance(value, bool):
        return value
    text = keyword(value) if isinstance(value, str) else ""
    return {"yes": True, "true": True, "no": False, "false": False}.get(text)


OLDEST_YEARS = 130
_AGE = re.compile(r"\s*(\d{1,4}(?:[.,]\d{1,3})?)\s*(years?|y|yrs?|months?|weeks?|days?|)\s*", re.I)
_PARTS_OF_A_YEAR = {
    "": 1, "y": 1, "yr": 1, "yrs": 1, "year": 1, "years": 1, "month": 12, "months": 12,
    "week": 52, "weeks": 52,
    "day": 365, "days": 365,
}  # fmt: skip
_SEXES = {"f": "female", "m": "male"} | {sex: sex for sex in ("female", "male", "other", "unknown")}

_TEXT_SCHEMA = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]})
_OBJECT_SCHEMA = WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "null"}]})
_NUMBER_SCHEMA = WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "null"}]})
_FLAG_SCHEMA = WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "null"}]})
# Accepted whatever their type: nothing optional stops an emergency.
AnyText = Annotated[Any, _TEXT_SCHEMA]
AnyNumber = Annotated[Any, _NUMBER_SCHEMA]
AnyFlag = Annotated[Any, _FLAG_SCHEMA]
AnyObject = Annotated[Any, _OBJECT_SCHEMA]
# Accepted whatever their type, and converted to a text or an object.
LenientText = Annotated[str | None, BeforeValidator(_bounded_text), _TEXT_SCHEMA]
LenientObject = Annotated[
    dict[str, Any] | None, BeforeValidator(as_object), AfterValidator(must_be_bounded), _OBJECT_SCHEMA
]
