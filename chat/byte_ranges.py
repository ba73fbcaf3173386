"""Parts of a file: `Range` and `If-Range` of RFC 9110, section 14, which players on phones ask with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_ONE_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Part(NamedTuple):
    """Bytes from `first` to `last`, both included; `last < first` where nothing of them exists."""

    first: int
    last: int

    @property
    def is_satisfiable(self) -> bool:
        return self.first <= self.last


def asked_part(headers: Mapping[str, str], size: int, etag: str) -> Part | None:
    """Return the part that a GET asks for; None for the whole.

    Several ranges, other units and what is no range are answered with the whole, as the RFC allows; so is a
    part of another version of the file (`If-Range`).
    """
    asked = _ONE_RANGE.fullmatch(headers.get("Range", "").replace(" ", ""))
    if asked is None or asked[1] == asked[2] == "" or headers.get("If-Range", etag) != etag:
        return None
    if asked[1] == "":
        return Part(max(0, size - int(asked[2])), size - 1 if int(asked[2]) else -1)
    first, last = int(asked[1]), int(asked[2] or size)
    if last < first:
        return None
    return Part(first, min(last, size - 1))
