"""Plans of prepared statements are made anew, each time after twice as long."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hplus.realtime.execution import plan_age
from hplus.realtime.execution.plan_age import FIRST_SECONDS, LONGEST_SECONDS, PlanAge


def test_each_plan_is_kept_twice_as_long_as_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(plan_age, "time", SimpleNamespace(monotonic=lambda: now))
    plans = PlanAge()
    seconds = FIRST_SECONDS
    for _ in range(10):
        now += seconds - 0.1
        assert not plans.is_over()
        now += 0.2
        assert plans.is_over()
        assert not plans.is_over()
        seconds = min(2 * seconds, LONGEST_SECONDS)
