"""docs/security.md names files and tests that exist, and says something of each chapter of ASVS 5."""

from __future__ import annotations

import re

from tests.docs.test_architecture import PATH, ROOT

TEXT = (ROOT / "docs/security.md").read_text(encoding="utf-8")
CHAPTERS = 17


def rows_of(section: str) -> list[list[str]]:
    body = TEXT.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = [line for line in body.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_each_threat_has_a_control_and_a_test_that_exist() -> None:
    rows = rows_of("Threat model")
    assert len(rows) >= 20
    for who, wants, control, test in rows:
        files = PATH.findall(control)
        assert who, wants
        assert files, f"no file stops: {wants}"
        assert [path for path, _ in files if not (ROOT / path).is_file()] == [], wants
        [(path, name)] = PATH.findall(test)
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path} has no {name}"


def test_each_chapter_of_asvs_has_an_answer_and_a_reason() -> None:
    rows = rows_of("ASVS 5.0, level 2")
    assert [chapter.split()[0] for chapter, _, _ in rows] == [f"V{n}" for n in range(1, CHAPTERS + 1)]
    for chapter, answer, why in rows:
        assert answer in ("yes", "no", "n/a"), chapter
        assert len(why) > 40, chapter
        files = [path for path, _ in PATH.findall(why)]
        assert files or answer == "n/a", chapter
        assert [path for path in files if not (ROOT / path).is_file()] == [], chapter


def test_it_says_how_to_report_a_fault_and_the_readme_leads_to_it() -> None:
    assert re.search(r"^## Reporting a fault\n\n\S", TEXT, re.MULTILINE)
    assert "docs/security.md" in (ROOT / "README.md").read_text(encoding="utf-8")
