"""`benchmarks/profile.py` finds where a message's CPU goes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import FrameType

import pytest

from benchmarks.steps import LOOP, RULES, step_of
from chat.messages import SendMessage
from hplus import errors
from tests.benchmarks.test_compare import run

ROOT = Path(__file__).resolve().parents[2]
ALWAYS = (
    "reading",
    "building statements",
    "database connection",
    "events",
    "delivery",
    "writing",
    "receipts",
)


def test_steps_sum_to_the_whole_process(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    done = run("benchmarks.profile", "--seconds", "4", "--json", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(path.read_text())
    assert list(found) == ["at a fixed rate", "at saturation"]
    for profile in found.values():
        assert sum(profile["steps"].values()) == pytest.approx(profile["whole"], rel=0.1)
    steps = found["at saturation"]["steps"]
    assert [step for step in ALWAYS if not steps.get(step)] == []
    assert steps.get("elsewhere in HPlus", 0) < 0.05 * found["at saturation"]["whole"]
    assert "| reading " in done.stdout
    assert "`send_messages` waits " in done.stdout


def steps_seen_at(moment: str) -> list[str]:
    """The steps a sampler would see while a request is read, at its `call` or its `return`."""
    seen: list[str] = []

    def look(frame: FrameType, event: str, _: object) -> None:
        if event == moment and frame.f_code.co_qualname == "Request.read":
            seen.append(step_of(frame))

    sys.setprofile(look)
    try:
        with pytest.raises(errors.ValidationFailed):
            SendMessage.read({"type": "sendMessage"})
    finally:
        sys.setprofile(None)
    return seen


def test_running_code_belongs_to_its_step() -> None:
    assert steps_seen_at("return") == ["reading"]


def test_what_ran_before_a_callback_belongs_to_the_loop() -> None:
    assert steps_seen_at("call") == [LOOP]


def test_every_rule_names_a_file_that_exists() -> None:
    paths = {
        rule.partition(":")[0] for rules in RULES.values() for starts in rules.values() for rule in starts
    }
    libraries = {"channels_redis/", "redis/"}
    missing = [path for path in sorted(paths - libraries) if not [*ROOT.glob(f"{path}*")]]
    assert missing == []
