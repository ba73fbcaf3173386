"""docs/architecture.md and README.md name only files and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP = "hplus|chat|emergency|location|calls|tests|docs|benchmarks|deploy|templates"
PATH = re.compile(rf"`((?:{TOP})/[\w/.*-]*)(?:::(\w+))?`")
LINK = re.compile(r"\]\(([^)#\s:]+)(?:#[\w-]*)?\)")
DOCUMENTS = ["docs/architecture.md", "README.md"]


def references(document: str) -> list[tuple[str, str]]:
    return PATH.findall((ROOT / document).read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_named_file_exists(document: str) -> None:
    paths = {path for path, _ in references(document)}
    assert len(paths) > 10
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_linked_file_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert [link for link in LINK.findall(text) if not (ROOT / document).parent.joinpath(link).exists()] == []


def test_every_invariant_names_a_test_that_exists() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.partition("## Invariants")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert rows
    for row in rows:
        named = [(path, test) for path, test in PATH.findall(row) if test]
        assert named, f"no test is named in: {row}"
        for path, test in named:
            source = (ROOT / path).read_text(encoding="utf-8")
            assert f"def {test}(" in source, f"{path} has no {test}"


def test_every_module_of_realtime_is_in_a_described_room() -> None:
    described = {path for path, _ in references("docs/architecture.md")}
    rooms = {f"hplus/realtime/{room.name}/" for room in (ROOT / "hplus/realtime").iterdir() if room.is_dir()}
    without_code = {"hplus/realtime/migrations/", "hplus/realtime/__pycache__/"}
    assert rooms - without_code <= described
