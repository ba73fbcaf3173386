"""Where the CPU time of a message goes, step by step.

    .venv/bin/python -m benchmarks.profile                 # at a fixed rate and at saturation
    .venv/bin/python -m benchmarks.profile --seconds 20    # more samples

Starts PostgreSQL, Redis and a server in production settings for this alone, with a sampler inside
(`benchmarks/sampled_server.py`), and writes to it as `compare.py` does. Prints µs of the server's CPU for
each step of a message (`benchmarks/steps.py` has the rules), how long the hot statements are on their way,
and what PostgreSQL spends. A message comes with its receipt: both are in the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import report, servers
from benchmarks.compare import measure, say
from benchmarks.servers import Server
from benchmarks.shapes import chat
from benchmarks.shapes.run import Cost, Meter, Outcome, Run, Sizes
from benchmarks.storage import Storage

SHAPES = {"at a fixed rate": chat.at_rate, "at saturation": chat.at_saturation}
WRITTEN_SECONDS = 10


@dataclass
class ProfiledRun(Run):
    """A run whose meter also starts and stops the sampler in the server."""

    path: Path = Path()

    def meter(self) -> Meter:
        return SamplingMeter(self)


class SamplingMeter(Meter):
    def __init__(self, run: ProfiledRun) -> None:
        self._path, self._pid = run.path, run.server.pid
        self._path.unlink(missing_ok=True)
        os.kill(self._pid, signal.SIGUSR1)
        super().__init__(run)

    def stop(self) -> Cost:
        cost = super().stop()
        os.kill(self._pid, signal.SIGUSR2)
        return cost


@dataclass
class Profile:
    """The seconds of each step, and the run in which they were spent."""

    outcome: Outcome
    sampled: dict[str, Any]

    @property
    def steps(self) -> dict[str, float]:
        """µs a message, the largest first."""
        count = self.outcome.count
        steps = {step: 1e6 * seconds / count for step, seconds in self.sampled["steps"].items()}
        return dict(sorted(steps.items(), key=lambda step: -step[1]))

    @property
    def whole(self) -> float:
        """µs a message of the whole process, as the kernel counted them."""
        return self.outcome.figures["CPU, µs a message"]

    def table(self) -> str:
        whole = sum(self.steps.values())
        rows: list[tuple[str, ...]] = [("step", "µs a message", "share")]
        rows += [(step, f"{us:.0f}", f"{us / whole:.0%}") for step, us in self.steps.items()]
        rows += [
            ("all steps", f"{whole:.0f}", "100%"),
            ("the process by the kernel's count", f"{self.whole:.0f}", ""),
        ]
        return report.markdown(rows)

    def flights(self) -> str:
        """One sentence for each hot statement."""
        lines = []
        for name, count in sorted(self.sampled["flights"].items()):
            wait_ms = 1000 * self.sampled["flightSeconds"][name] / count
            messages = self.outcome.count / count
            lines.append(f"`{name}` waits {wait_ms:.2f} ms for PostgreSQL, once in {messages:.1f} messages.")
        return "\n".join(lines)

    def text(self) -> str:
        figures = report.line(self.outcome)
        return (
            f"{self.table()}\n\n{self.flights()}\nIn this run: {figures}; {self.sampled['samples']} samples."
        )

    def as_json(self) -> dict[str, Any]:
        return {"steps": self.steps, "whole": self.whole, "samples": self.sampled["samples"]}


def sampled(storage: Storage, path: Path) -> Server:
    """HPlus with the sampler inside."""
    server = servers.hplus(storage)
    python, _, *serve = server.command
    server.command = [python, "-m", "benchmarks.sampled_server", str(path), *serve]
    return server


def profile(run: ProfiledRun, shape: Any) -> Profile:
    outcome = measure(shape, run)
    deadline = time.monotonic() + WRITTEN_SECONDS
    while not run.path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return Profile(outcome, json.loads(run.path.read_text()))


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="benchmarks.profile"
    )
    options.add_argument("--seconds", type=float, default=Sizes.seconds, help="of each load")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the steps there")
    asked = options.parse_args()
    sizes = replace(Sizes(), seconds=asked.seconds, warm_up_seconds=2, settle_seconds=1)
    with Storage() as storage, TemporaryDirectory() as directory:
        path = Path(directory) / "steps.json"
        with sampled(storage, path) as server:
            run = ProfiledRun(server, storage, sizes, path=path)
            found = {name: profile(run, shape) for name, shape in SHAPES.items()}
        say(report.machine(storage))
    for name, each in found.items():
        say(f"\nA message {name}\n\n{each.text()}")
    if asked.json:
        asked.json.write_text(json.dumps({name: each.as_json() for name, each in found.items()}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
