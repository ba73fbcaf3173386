"""What an examination finds, and the thread it is made in.

The examinations run side by side in threads of their own, so that what hangs is reported like
what fails: the answer is there within ten seconds, whatever the database or Redis do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from django.db import connections

PATIENCE_SECONDS = 6.0  # for all examinations; starting Python and Django comes on top


@dataclass(frozen=True)
class Finding:
    """How one thing is: `ok`, `warning` or `wrong`, and a sentence that says what to do."""

    status: str
    check: str
    says: str


ok, warning, wrong = (partial(Finding, status) for status in ("ok", "warning", "wrong"))
Examine = Callable[[], Iterator[Finding]]


class Examination(threading.Thread):
    """One part of HPlus. A daemon, so that a part which hangs does not keep the command from ending."""

    def __init__(self, name: str, examine: Examine) -> None:
        super().__init__(name=name, daemon=True)
        self.examine = examine
        self._findings: list[Finding] = []

    def run(self) -> None:
        try:
            for finding in self.examine():
                self._findings.append(finding)
        except Exception as trouble:
            self._findings.append(wrong(self.name, f"The examination ended early: {cause(trouble)}"))
        finally:
            connections.close_all()

    def findings(self, until: float) -> list[Finding]:
        """What was found up to that moment of the monotonic clock."""
        self.join(max(0, until - time.monotonic()))
        if not self.is_alive():
            return self._findings
        says = f"No answer within {PATIENCE_SECONDS:g} s. Look whether it hangs, and at the network between."
        return [*self._findings, wrong(self.name, says)]


def cause(trouble: BaseException) -> str:
    """One line; drivers write several, and some none."""
    text = " ".join(str(trouble).split())[:300]
    return f"{type(trouble).__name__}: {text}" if text else type(trouble).__name__
