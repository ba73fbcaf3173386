"""How one variable of the environment is read: a reader gives the value, or raises ValueError or KeyError."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

Value = TypeVar("Value")
MOST_WAIT_SECONDS = 86_400  # a day; nobody waits longer for somebody to accept


def env(
    name: str, default: str, read: Callable[[str], Value], wanted: str, *, has_secret: bool = False
) -> Value:
    """One environment variable. A wrong value stops the start with a sentence that names it.

    With `has_secret` the sentence does not repeat the value, because it ends up in a log.
    """
    text = os.environ.get(name, "").strip() or default
    try:
        return read(text)
    except (ValueError, KeyError):
        but = "" if has_secret else f", not {text!r}"
        raise ImproperlyConfigured(f"{name} must be {wanted}{but}.") from None


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


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def hosts(text: str) -> list[str]:
    """As Django compares them: without port, `[...]` around IPv6, a dot in front for all below."""
    found = words(text)
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


def whole(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number within these bounds."""

    def read(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise ValueError(text)
        return number

    return read


count = whole(0, 10**9)


def seconds_by_priority(text: str) -> dict[str, int]:
    pairs = [pair.split("=") for pair in text.split(",")]
    seconds = {key.strip(): whole(1, MOST_WAIT_SECONDS)(value) for key, value in pairs}
    if set(seconds) != {"critical", "high", "medium", "low"} or len(pairs) != len(seconds):
        raise ValueError(text)
    return seconds


def database(text: str) -> dict[str, Any]:
    """Raises ValueError also where no database is named: what is only in memory has to be asked for."""
    parsed = dict(dj_database_url.parse(text))
    if parsed.get("ENGINE") not in ("django.db.backends.postgresql", "django.db.backends.sqlite3"):
        raise ValueError(text)
    if not parsed.get("NAME") or text.endswith("//"):
        raise ValueError(text)
    return parsed


def must_be_a_place_for_a_file(path: Path) -> None:
    """Makes its directory. SQLite itself would only say later that it can't open the file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as trouble:
        raise ImproperlyConfigured(f"DATABASE_URL names {path}: {trouble.strerror}.") from None
    if path.is_dir():
        raise ImproperlyConfigured(f"DATABASE_URL names {path}, which is a directory, not a file.")


def ice_urls(text: str) -> list[str]:
    urls = words(text)
    if not all(re.fullmatch(r"(stun|turn)s?:\S+", url) for url in urls):
        raise ValueError(text)
    return urls


def redis_address(text: str) -> str:
    if not text:
        return text
    at = urlsplit(text)
    _ = at.port  # raises for what is no number
    is_server = at.scheme in ("redis", "rediss") and at.hostname and re.fullmatch(r"(/\d*)?", at.path)
    if not is_server and not (at.scheme == "unix" and at.path):
        raise ValueError(text)
    return text
