"""The shapes by name."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks.shapes import alert, chat, connecting, location
from benchmarks.shapes.run import Outcome, Run

Shape = Callable[[Run], Coroutine[Any, Any, Outcome]]

TWO_WORKERS = "workers"
SHAPES: dict[str, tuple[str, Shape]] = {
    "rate": ("chat at a fixed rate", chat.at_rate),
    "saturation": ("chat at saturation", chat.at_saturation),
    "connect": ("come and go", connecting.come_and_go),
    "restart": ("back after a restart", connecting.restart),
    "idle": ("idle", connecting.idle),
    "location": ("positions for watchers", location.watched),
    "alert": ("alert to all staff", alert.to_all_staff),
    TWO_WORKERS: ("two workers, chat at saturation", chat.at_saturation),
}
