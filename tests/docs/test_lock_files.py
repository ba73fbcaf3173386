"""What is installed is what was locked: each package with the hashes of its files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

LOCKS = ["requirements.txt", "requirements-push.txt", "requirements-dev.txt"]
PINNED = re.compile(r"([\w.-]+(?:\[[\w,-]+\])?)==([\w.!+-]+)")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}$")
MAKE_BILL = "cyclonedx_py requirements --output-reproducible --spec-version 1.6 --validate"
MAKEFILE, DOCKERFILE = (ROOT / "Makefile").read_text(), (ROOT / "Dockerfile").read_text()


def requirements_in(name: str) -> list[str]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.lstrip().startswith("#")]
    return [text for text in "\n".join(lines).replace("\\\n", " ").splitlines() if text.strip()]


@pytest.mark.parametrize("name", LOCKS)
def test_each_package_is_pinned_with_hashes(name: str) -> None:
    requirements = requirements_in(name)
    assert len(requirements) > 20
    for requirement in requirements:
        pin, *hashes = requirement.split(" --hash=")
        assert PINNED.match(pin), requirement
        assert hashes, requirement
        assert all(HASH.match(f"--hash={one.strip()}") for one in hashes), requirement


def test_hashes_are_required_wherever_packages_are_installed() -> None:
    assert "install --quiet --require-hashes" in MAKEFILE
    assert MAKEFILE.count("uv pip compile") == MAKEFILE.count("--generate-hashes") == len(LOCKS)
    assert "--require-hashes" in DOCKERFILE[DOCKERFILE.index("pip install") :].partition("FROM")[0]
    assert "pip install --require-hashes" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-push.txt"])
def test_bill_of_materials_names_each_locked_package(name: str, tmp_path: Path) -> None:
    """As `make sbom` makes it, and twice the same."""
    made = [tmp_path / f"{number}.json" for number in range(2)]
    for path in made:
        command = [sys.executable, "-m", *MAKE_BILL.split(), "--output-file", str(path), name]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert MAKE_BILL in MAKEFILE
    bill = json.loads(made[0].read_text())
    assert made[0].read_text() == made[1].read_text()
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    named = {(part["name"].lower(), part["version"]) for part in bill["components"]}
    locked = [PINNED.match(requirement) for requirement in requirements_in(name)]
    assert named == {(found[1].partition("[")[0].lower(), found[2]) for found in locked if found}
    assert all(part["purl"].startswith("pkg:pypi/") for part in bill["components"])
