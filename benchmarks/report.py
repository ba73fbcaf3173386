"""Medians, ratios, and the table that shows them."""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median

import psutil

from benchmarks.shapes.run import Outcome
from benchmarks.storage import Storage
from benchmarks.tally import Faults

FAULTS = "lost / doubled / out of order"
RESULTS = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
HEADING = "## Results"


class Report:
    """What was measured, turn by turn."""

    def __init__(self) -> None:
        self._outcomes: dict[str, dict[str, list[Outcome]]] = defaultdict(lambda: defaultdict(list))

    def add(self, shape: str, server: str, outcome: Outcome) -> None:
        self._outcomes[shape][server].append(outcome)

    @property
    def has_faults(self) -> bool:
        """Whether HPlus lost or doubled anything, or mixed up an order."""
        return any(outcome.faults for servers in self._outcomes.values() for outcome in servers["HPlus"])

    def as_json(self) -> dict[str, dict[str, list[dict[str, float | str]]]]:
        return {
            shape: {name: [_row_of(outcome) for outcome in runs] for name, runs in servers.items()}
            for shape, servers in self._outcomes.items()
        }

    def table(self) -> str:
        """The medians as a Markdown table, the second server's beside the first's."""
        rows: list[tuple[str, ...]] = [("load", "figure", "HPlus", "beside it", "value", "ratio")]
        for shape, servers in self._outcomes.items():
            rows += self._rows_of(shape, servers)
        return markdown(rows)

    @staticmethod
    def _rows_of(shape: str, servers: dict[str, list[Outcome]]) -> Iterator[tuple[str, ...]]:
        ours = servers["HPlus"]
        beside = next((name for name in servers if name != "HPlus"), None)
        theirs = servers[beside] if beside else []
        for label in ours[0].figures:
            one, other = _median(ours, label), _median(theirs, label)
            yield shape, label, _number(one), beside or "", _number(other), _ratio(one, other)
            shape = ""
        faults = [_faults_of(runs) for runs in (ours, theirs)]
        if any(faults):
            yield "", FAULTS, faults[0], beside or "", faults[1], ""


def line(outcome: Outcome) -> str:
    """The figures of one run in one line."""
    figures = [f"{_number(value)} {label}" for label, value in outcome.figures.items()]
    return "; ".join([*figures, *([f"{outcome.faults} {FAULTS}"] if outcome.faults is not None else [])])


def _row_of(outcome: Outcome) -> dict[str, float | str]:
    faults = {} if outcome.faults is None else {FAULTS: str(outcome.faults)}
    return {**outcome.figures, **faults}


def _median(outcomes: list[Outcome], label: str) -> float:
    return median(outcome.figures[label] for outcome in outcomes) if outcomes else math.nan


def _faults_of(outcomes: list[Outcome]) -> str:
    counted = [outcome.faults for outcome in outcomes if outcome.faults is not None]
    return str(sum(counted, Faults())) if counted else ""


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratio(one: float, other: float) -> str:
    return "" if math.isnan(one) or math.isnan(other) or not other else f"{one / other:.2f}"


def markdown(rows: list[tuple[str, ...]]) -> str:
    """A Markdown table without the columns that are empty."""
    used = [column for column in range(len(rows[0])) if any(row[column] for row in rows[1:])]
    widths = {column: max(len(row[column]) for row in rows) for column in used}
    lines = ["| " + " | ".join(row[c].ljust(widths[c]) for c in used) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (widths[c] + 2) for c in used) + "|")
    return "\n".join(lines)


def machine(storage: Storage) -> str:
    """The machine and the versions, as one paragraph."""
    [[postgres]] = storage.execute("hplus", "SHOW server_version")
    redis = _first_number([str(storage.redis.binary), "--version"])
    parts = [
        f"{os.cpu_count()} cores ({processor()}), {psutil.virtual_memory().total / 2**30:.0f} GiB",
        platform.system(),
        f"Python {platform.python_version()}, Django {version('django')}, uvloop {version('uvloop')}",
        f"PostgreSQL {postgres.split()[0]}, Redis {redis}, Node.js {_first_number(['node', '--version'])}",
    ]
    return "; ".join(parts) + ". Server, databases and load share these cores."


def processor() -> str:
    """The name of the processor, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return named[1] if named else platform.processor() or platform.machine()


def _first_number(command: list[str]) -> str:
    try:
        said = subprocess.run(command, capture_output=True, text=True).stdout
    except OSError:
        return "none"
    found = re.search(r"\d+\.\d+(\.\d+)?", said)
    return found[0] if found else "unknown"


def save(text: str, path: Path = RESULTS) -> None:
    """Put a dated result on top of those in docs/performance.md."""
    document = path.read_text(encoding="utf-8")
    before, heading, after = document.partition(f"{HEADING}\n")
    entry = f"\n### {date.today().isoformat()}\n\n{text}\n"  # noqa: DTZ011 the day where it was measured
    path.write_text(before + heading + entry + after, encoding="utf-8")
