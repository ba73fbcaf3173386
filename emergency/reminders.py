"""How much rarer reminders of the same thing become."""

from __future__ import annotations

from datetime import timedelta

LONGEST_PAUSE_STEPS = 16


def backed_off(step: timedelta, reminders: int) -> timedelta:
    """Return the pause before the next reminder: 1, 2, 4, 8, then 16 steps each time."""
    return step * min(2 ** min(reminders, LONGEST_PAUSE_STEPS), LONGEST_PAUSE_STEPS)
