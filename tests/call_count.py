"""Counting calls from one file of the project into another, in all threads of this process."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("hplus", "chat", "emergency", "location", "calls")

Call = tuple[str, str]  # the file that calls, and the file and function that are called


class CallCount:
    """A profile hook that counts while `counting`. Threads that were running before are not seen."""

    def __init__(self) -> None:
        self.calls: Counter[Call] = Counter()
        self._is_counting = False

    @contextmanager
    def installed(self) -> Iterator[CallCount]:
        """Hook into this thread and those that start from now on."""
        threading.setprofile(self._hook)
        sys.setprofile(self._hook)
        try:
            yield self
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    @contextmanager
    def counting(self) -> Iterator[Counter[Call]]:
        """Count the calls of this block anew, in all threads."""
        self.calls = Counter()
        self._is_counting = True
        try:
            yield self.calls
        finally:
            self._is_counting = False

    def _hook(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event != "call" or not self._is_counting or frame.f_back is None:
            return
        caller, called = frame.f_back.f_code.co_filename, frame.f_code.co_filename
        if caller != called and (file := project_file(caller)) and (into := project_file(called)):
            self.calls[file, f"{into} {frame.f_code.co_qualname}"] += 1


@cache
def project_file(filename: str) -> str:
    """The path below the project; blank for a file of a library or of the tests."""
    path = Path(filename)
    relative = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else ""
    return relative if relative.split("/")[0] in PACKAGES else ""
