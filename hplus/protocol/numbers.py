"""Numbers in free objects: which ones are stored and sent as they are.

jsonb writes a number in all its digits, so 1e308 takes 309 bytes there. What is finite, has at most 17
significant digits (those of a double) and an exponent within ±15 is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

SMALLEST, TOO_LARGE = 1e-15, 1e16
MAX_NAMES = 50
TEXT_CHARACTERS = 40


class UnreadableNumber(str):
    """The text of a number that no field holds, in a request that goes on without it."""

    __slots__ = ()


def is_bounded(value: Any) -> bool:
    """Whether this value, of any type, is no number or one that may be stored in a free object."""
    if isinstance(value, UnreadableNumber):
        return False
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return value == 0 or SMALLEST <= abs(value) < TOO_LARGE


def must_be_bounded(value: Any) -> Any:
    """Return the value. Raises ValueError where a number in it is not bounded."""
    if next(_unbounded(value), None) is not None:
        raise ValueError("has a number that is not finite, or whose exponent is beyond ±15")
    return value


def without_unbounded(value: Any) -> Any:
    """Return the value with null in place of each number that is not bounded."""
    return _replaced(value, lambda _: None)


def unbounded_as_text(value: Any) -> Any:
    """Return the value with the text of each number that is not bounded in its place."""
    return _replaced(value, lambda number: str(number)[:TEXT_CHARACTERS])


def names_of_unbounded(fields: dict[str, Any]) -> list[str]:
    """Return the fields with such a number, by the path of at most two names, at most MAX_NAMES of them."""
    return list(islice(dict.fromkeys(_names(fields)), MAX_NAMES))


def _names(fields: dict[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        inner = value.items() if isinstance(value, dict) else ()
        yield from (f"{name}.{key}" for key, each in inner if any(True for _ in _unbounded(each)))
        if not isinstance(value, dict) and any(True for _ in _unbounded(value)):
            yield name


def _unbounded(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _unbounded(inner)
    elif not is_bounded(value):
        yield value


def _replaced(value: Any, replace: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(inner, replace) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, replace) for inner in value]
    return value if is_bounded(value) else replace(value)
