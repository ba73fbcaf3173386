"""Reading environment variables: a parser returns the value, or raises ValueError or KeyError."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

Value = TypeVar("Value")
MOST_ESCALATION_SECONDS = 86_400
SECRET_KEY_LENGTH, SECRET_KEY_VARIETY = 50, 10
SECRET_KEY_COMPRESSED_BYTES = 40  # 50 random hexadecimal digits have 47 or more
SECRET_KEY_PLACEHOLDERS = (
    "insecure",
    *("changeme", "change-me", "change_me", "replace-me", "replaceme", "placeholder", "example", "your-"),
    *("secretkey", "secret-key", "secret_key", "qwerty", "12345", "password"),
)
MOST_SESSION_HOURS = 10 * 8784
STAFF_ROLES = ("doctor", "nurse", "paramedic", "admin", "receptionist", "technician", "pharmacist")


def env(
    name: str, default: str, parse: Callable[[str], Value], expected: str, *, has_secret: bool = False
) -> Value:
    """Return one environment variable. Raises ImproperlyConfigured with a sentence that names the variable.

    With `has_secret` the sentence does not repeat the value, because it ends up in a log.
    """
    text = os.environ.get(name, "").strip() or default
    try:
        return parse(text)
    except (ValueError, KeyError):
        but = "" if has_secret else f", not {text!r}"
        raise ImproperlyConfigured(f"{name} must be {expected}{but}.") from None


def boolean(text: str) -> bool:
    return {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }[text.lower()]


def is_strong_key(key: str) -> bool:
    """Whether this is so long, varied and free of known placeholders that nobody guesses what it signs.

    A repetition is short once compressed; in a row most characters follow the one before.
    """
    if any(known in key.lower() for known in SECRET_KEY_PLACEHOLDERS):
        return False
    in_a_row = sum(abs(ord(one) - ord(other)) <= 1 for one, other in pairwise(key))
    is_varied = len(set(key)) >= SECRET_KEY_VARIETY and in_a_row < len(key) / 2
    is_random = len(zlib.compress(key.encode("utf-8", "replace"), 9)) >= SECRET_KEY_COMPRESSED_BYTES
    return len(key) >= SECRET_KEY_LENGTH and is_varied and is_random


def comma_separated(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def hosts(text: str) -> list[str]:
    """Host names as Django compares them: without port, IPv6 in brackets, a leading dot for subdomains."""
    found = comma_separated(text)
    if not all(re.fullmatch(r"\*|\[[0-9a-fA-F:.]+\]|\.?[\w-]+(\.[\w-]+)*", host) for host in found):
        raise ValueError(text)
    return found


def tile_address(text: str) -> str:
    is_address = re.match(r"https?://[^/]|/[^/]", text) and all(
        part in text for part in ("{z}", "{x}", "{y}")
    )
    if text and not is_address:
        raise ValueError(text)
    return text


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers within these bounds."""

    def read(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise ValueError(text)
        return number

    return read


count = whole_number(0, 10**9)


def numbers_by_name(names: set[str], least: int, most: int) -> Callable[[str], dict[str, int]]:
    """Return a parser of `name=number` for exactly these names, separated by commas."""

    def read(text: str) -> dict[str, int]:
        pairs = [pair.split("=") for pair in text.split(",")]
        numbers = {key.strip(): whole_number(least, most)(value) for key, value in pairs}
        if set(numbers) != names or len(pairs) != len(numbers):
            raise ValueError(text)
        return numbers

    return read


seconds_by_priority = numbers_by_name({"critical", "high", "medium", "low"}, 1, MOST_ESCALATION_SECONDS)
seconds_by_stall = numbers_by_name({"acknowledge", "turnout", "unreachable"}, 1, MOST_ESCALATION_SECONDS)
megabytes_by_scope = numbers_by_name({"user", "room", "hospital"}, 0, 10**9)


def seconds_by_role(text: str) -> dict[str, float]:
    """Seconds of each role from hours like `patient=720,staff=72,admin=12`; a role goes before `staff`."""
    pairs = [pair.split("=") for pair in text.split(",")]
    hours = {key.strip(): float(value) for key, value in pairs}
    is_known = set(hours) <= {"patient", "staff", *STAFF_ROLES} and {"patient", "staff"} <= set(hours)
    if not is_known or len(hours) != len(pairs):
        raise ValueError(text)
    if not all(0 < value <= MOST_SESSION_HOURS for value in hours.values()):
        raise ValueError(text)
    staff = {role: hours.get(role, hours["staff"]) for role in STAFF_ROLES}
    return {role: 3600 * value for role, value in {**staff, "patient": hours["patient"]}.items()}


def database(text: str) -> dict[str, Any]:
    """Django's settings of a database. Raises ValueError also where the URL names none."""
    parsed = dict(dj_database_url.parse(text))
    if parsed.get("ENGINE") not in ("django.db.backends.postgresql", "django.db.backends.sqlite3"):
        raise ValueError(text)
    if not parsed.get("NAME") or text.endswith("//"):
        raise ValueError(text)
    return parsed


def prepare_directory_of(path: Path) -> None:
    """Make the file's directory. Raises ImproperlyConfigured now, where SQLite would fail at first use."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as trouble:
        raise ImproperlyConfigured(f"DATABASE_URL names {path}: {trouble.strerror}.") from None
    if path.is_dir():
        raise ImproperlyConfigured(f"DATABASE_URL names {path}, which is a directory, not a file.")


def ice_urls(text: str) -> list[str]:
    urls = comma_separated(text)
    if not all(re.fullmatch(r"(stun|turn)s?:\S+", url) for url in urls):
        raise ValueError(text)
    return urls


def redis_address(text: str) -> str:
    if not text:
        return text
    at = urlsplit(text)
    _ = at.port  # raises ValueError where it is no number
    is_server = at.scheme in ("redis", "rediss") and at.hostname and re.fullmatch(r"(/\d*)?", at.path)
    if not is_server and not (at.scheme == "unix" and at.path):
        raise ValueError(text)
    return text
