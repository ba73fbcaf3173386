"""Read descriptions of files: other types than the guide's are converted, unsafe addresses recognised."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

_OWN_FILE = re.compile(r"/api/chat/attachments/[0-9a-f-]{36}/?")


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


def is_web_address(url: str) -> bool:
    """Whether an app may show or open it: `https:`, or a file of HPlus on any host or as a path."""
    if not url.isprintable() or " " in url or "\\" in url:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    is_own = bool(_OWN_FILE.fullmatch(parts.path)) and parts.scheme in ("", "http", "https")
    return is_own or (parts.scheme == "https" and bool(parts.hostname))
