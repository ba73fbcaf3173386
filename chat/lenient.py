"""What to make of a word about a file that is not of the type the guide says: no message is lost for one."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit


def as_text(value: Any) -> str:
    """A text stays one; anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_bytes(value: Any) -> int:
    """A size as whole bytes; 0 for what is none."""
    try:
        size = 0 if isinstance(value, bool) else int(float(value))
    except (TypeError, ValueError, OverflowError):
        return 0
    return size if 0 <= size < 2**53 else 0


def name_in(url: str) -> str:
    """The last part of an address."""
    try:
        return urlsplit(url).path.rpartition("/")[2][:255]
    except ValueError:  # no address, but the client's own business
        return ""
