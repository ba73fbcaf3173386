"""Findings of the doctor, and the threads its examinations run in.

Each examination has its own thread, so that one that hangs is reported like one that fails, and the whole
command ends within ten seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from django.db import connections

TIMEOUT_SECONDS = 6.0  # for all examinations; starting Python and Django comes on top


@dataclass(frozen=True)
class Finding:
    """The result of one check: `ok`, `warning` or `wrong`, and a message that tells what to do."""

    status: str
    check: str
    message: str


ok, warning, wrong = (partial(Finding, status) for status in ("ok", "warning", "wrong"))
Examine = Callable[[], Iterator[Finding]]


class Examination(threading.Thread):
    """One group of checks, in a daemon thread, so that one that hangs does not keep the command alive."""

    def __init__(self, name: str, examine: Examine) -> None:
        super().__init__(name=name, daemon=True)
        self.examine = examine
        self._findings: list[Finding] = []

    def run(self) -> None:
        try:
            for finding in self.examine():
                self._findings.append(finding)
        except Exception as failure:
            self._findings.append(wrong(self.name, f"The examination ended early: {cause(failure)}"))
        finally:
            connections.close_all()

    def findings(self, until: float) -> list[Finding]:
        """Return what was found until then (`time.monotonic()`)."""
        self.join(max(0, until - time.monotonic()))
        if not self.is_alive():
            return self._findings
        message = f"No answer within {TIMEOUT_SECONDS:g} s. Check whether it hangs, and the network between."
        return [*self._findings, wrong(self.name, message)]


def cause(failure: BaseException) -> str:
    """Return class and text of an exception in one line; drivers write several lines, or none."""
    text = " ".join(str(failure).split())[:300]
    return f"{type(failure).__name__}: {text}" if text else type(failure).__name__
