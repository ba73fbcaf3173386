"""docs/safety-case.md names controls and tests that exist, and each row names both."""

from __future__ import annotations

import re

from tests.docs.test_architecture import PATH, ROOT

TEXT = (ROOT / "docs/safety-case.md").read_text(encoding="utf-8")
HAZARDS = [
    "A call is lost",
    "A call is unattended",
    "Help goes to the wrong place",
    "Data are of the wrong patient",
    "A score is stale or wrong",
    "A crew is believed to be under way",
    "A stranger sees a chart",
]


def rows_of(hazard: str) -> list[list[str]]:
    section = TEXT.partition(f"\n## {hazard}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_each_hazard_is_in_the_overview_and_has_causes() -> None:
    overview = TEXT.partition("## Hazards")[2].partition("\n## ")[0]
    assert re.findall(r"^\| \[([^\]]+)\]", overview, re.MULTILINE) == HAZARDS
    assert all(len(rows_of(hazard)) >= 3 for hazard in HAZARDS)


def test_each_control_and_each_test_exists() -> None:
    for hazard in HAZARDS:
        for cause, control, test in rows_of(hazard):
            files = PATH.findall(control)
            assert files, f"no file controls: {cause}"
            assert [path for path, _ in files if not (ROOT / path).is_file()] == [], cause
            [(path, name)] = PATH.findall(test)
            source = (ROOT / path).read_text(encoding="utf-8")
            assert name, f"no test for: {cause}"
            assert f"def {name}(" in source, f"{path} has no {name}"
