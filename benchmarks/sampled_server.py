"""`manage.py serve` that notes where its CPU time goes, for `benchmarks/profile.py`.

    python -m benchmarks.sampled_server FILE serve --port 5000

SIGUSR1 begins to count, SIGUSR2 writes to the file what has been counted since. A timer interrupts the
process after each slice of CPU time, and the time since the last interruption counts for the step whose code
runs then: the shares are estimates, their sum is exact.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

from django.core.management import execute_from_command_line

from benchmarks.steps import THREADS, step_of

SLICE_SECONDS = 0.001  # Linux rounds it up to its own tick, often 4 ms


class Sampler:
    """The CPU seconds of each step since `begin`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._samples = 0
        self._loop_seconds = self._began_at = self._process_began_at = 0.0

    def install(self) -> None:
        signal.signal(signal.SIGUSR1, self._begin)
        signal.signal(signal.SIGUSR2, self._finish)
        signal.signal(signal.SIGPROF, self._sample)

    def _begin(self, *_: Any) -> None:
        self._seconds.clear()
        self._samples = 0
        self._began_at = self._loop_seconds = time.thread_time()
        self._process_began_at = time.process_time()
        flights.clear()
        signal.setitimer(signal.ITIMER_PROF, SLICE_SECONDS, SLICE_SECONDS)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        now = time.thread_time()
        self._seconds[step_of(frame)] += now - self._loop_seconds
        self._loop_seconds = now
        self._samples += 1

    def _finish(self, number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._sample(number, frame)
        process_seconds = time.process_time() - self._process_began_at
        self._seconds[THREADS] = process_seconds - (self._loop_seconds - self._began_at)
        found = {"steps": self._seconds, "processSeconds": process_seconds, "samples": self._samples}
        unfinished = self._path.with_suffix(".part")
        unfinished.write_text(json.dumps(found | flights.as_json()))
        unfinished.rename(self._path)


class Flights:
    """How long the hot statements are on their way."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.count: Counter[str] = Counter()

    def as_json(self) -> dict[str, Any]:
        return {"flightSeconds": self.seconds, "flights": self.count}

    def install(self) -> None:
        """Note when each flight of a hot connection begins and ends."""
        from hplus.realtime.execution.hot_connection import HotConnection

        start, land = HotConnection._start, HotConnection._land
        began_at: dict[HotConnection, float] = {}

        def timed_start(hot: HotConnection, flight: Any, send: Any) -> None:
            began_at[hot] = time.perf_counter()
            start(hot, flight, send)

        def timed_land(hot: HotConnection) -> None:
            assert hot._flight is not None
            name = hot._flight.statement.name
            self.seconds[name] += time.perf_counter() - began_at[hot]
            self.count[name] += 1
            land(hot)

        hot_connection: Any = HotConnection
        hot_connection._start, hot_connection._land = timed_start, timed_land


flights = Flights()


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hplus.settings")
    Sampler(Path(sys.argv[1])).install()
    flights.install()
    execute_from_command_line(["manage.py", *sys.argv[2:]])


if __name__ == "__main__":
    main()
