"""Each load of `make benchmark`, with a few users for a second: everything arrives, once and in order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, servers
from benchmarks.report import FAULTS, Report
from benchmarks.shapes.run import Outcome
from benchmarks.shapes.table import SHAPES
from benchmarks.tally import Faults, faults_in, percentile

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 240
DELIVERING = ["rate", "saturation", "restart", "location", "alert", "workers"]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A benchmark in a process of its own, on storage of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HPLUS_")}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The figures of one quick turn of every load, on HPlus alone."""
    path = tmp_path_factory.mktemp("benchmark") / "found.json"
    done = run("benchmarks.compare", "--quick", "--alone", "--turns", "1", "--json", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(path.read_text()))


@pytest.mark.parametrize("name", DELIVERING)
def test_nothing_is_lost_doubled_or_out_of_order(found: dict[str, Any], name: str) -> None:
    runs = [run for runs in found[SHAPES[name][0]].values() for run in runs]
    assert [run[FAULTS] for run in runs] == ["0 / 0 / 0"] * len(runs)


@pytest.mark.parametrize("name", SHAPES)
def test_every_load_has_figures_of_work_done(found: dict[str, Any], name: str) -> None:
    [run] = found[SHAPES[name][0]]["HPlus"]
    figures = {label: value for label, value in run.items() if label != FAULTS}
    assert len(figures) >= 3
    assert all(value == value for value in figures.values()), figures  # NaN is not equal to itself
    assert any(value > 0 for value in figures.values())


def test_positions_go_to_watchers_only(found: dict[str, Any]) -> None:
    [run] = found[SHAPES["location"][0]]["HPlus"]
    assert run["positions a second to watchers"] > 0
    assert run["positions a second to others"] == 0


def test_two_workers_are_measured_beside_one(found: dict[str, Any]) -> None:
    assert list(found[SHAPES["workers"][0]]) == ["HPlus", "one worker"]


def test_unknown_load_is_refused_by_name() -> None:
    done = run("benchmarks.compare", "--shapes", "rate,flood")
    assert done.returncode == 2
    assert "flood: choose of rate, saturation" in done.stderr


def test_without_node_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(servers.PeerUnavailable, match=r"^Node\.js is not installed, so HPlus"):
        servers.peer(storage=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("heard", "faults"),
    [
        ([0, 1, 2], Faults()),
        ([0, 2], Faults(lost=1)),
        ([0, 1, 1, 2], Faults(repeated=1)),
        ([1, 0, 2], Faults(out_of_order=1)),
        ([2, 2, 0], Faults(lost=1, repeated=1, out_of_order=1)),
        ([], Faults(lost=3)),
    ],
)
def test_faults_are_counted(heard: list[int], faults: Faults) -> None:
    assert faults_in(heard, range(3)) == faults


def test_percentiles_are_values_that_occurred() -> None:
    assert (percentile(range(1, 101), 50), percentile(range(1, 101), 99), percentile([7], 50)) == (50, 99, 7)


def test_table_shows_medians_ratios_and_all_faults() -> None:
    found = Report()
    for value, faults in ((10.0, Faults()), (30.0, Faults(lost=2)), (20.0, Faults(repeated=1))):
        found.add("chat", "HPlus", Outcome({"p50, ms": value}, faults))
        found.add("chat", "Node.js", Outcome({"p50, ms": 2 * value}, Faults()))
    assert found.has_faults
    assert found.table().splitlines() == [
        "| load | figure                        | HPlus     | beside it | value     | ratio |",
        "|------|-------------------------------|-----------|-----------|-----------|-------|",
        "| chat | p50, ms                       | 20        | Node.js   | 40        | 0.50  |",
        "|      | lost / doubled / out of order | 2 / 1 / 0 | Node.js   | 0 / 0 / 0 |       |",
    ]


def test_faults_of_the_peer_are_not_those_of_hplus() -> None:
    found = Report()
    found.add("chat", "HPlus", Outcome({"p50, ms": 1.0}, Faults()))
    found.add("chat", "Node.js", Outcome({"p50, ms": 1.0}, Faults(lost=1)))
    assert not found.has_faults


def test_saved_result_stands_above_earlier_ones(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("# Performance\n\n## Results\n\n### 2026-01-01\n\nearlier\n")
    report.save("later", document)
    text = document.read_text()
    assert text.startswith("# Performance\n\n## Results\n\n### ")
    assert text.index("later") < text.index("### 2026-01-01") < text.index("earlier")
