"""How much rarer reminders of the same thing become."""

from __future__ import annotations

from datetime import timedelta

LONGEST_PAUSE_STEPS = 16


def backed_off(step: timedelta, repeats: int) -> timedelta:
    """The pause before the next reminder: 1, 2, 4, 8, then 16 steps each time."""
    return step * min(2 ** min(repeats, LONGEST_PAUSE_STEPS), LONGEST_PAUSE_STEPS)
