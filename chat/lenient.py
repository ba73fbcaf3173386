"""Convert descriptions of a file that are not of the guide's types: no message is refused for one."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit


def as_text(value: Any) -> str:
    """Return a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_bytes(value: Any) -> int:
    """Return a size in whole bytes; 0 for anything that is no size."""
    try:
        size = 0 if isinstance(value, bool) else int(float(value))
    except (TypeError, ValueError, OverflowError):
        return 0
    return size if 0 <= size < 2**53 else 0


def file_name_in(url: str) -> str:
    """Return the last part of an address; blank where the text is no address."""
    try:
        return urlsplit(url).path.rpartition("/")[2][:255]
    except ValueError:
        return ""
