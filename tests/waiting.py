"""Waiting for what must happen, and judging how long it took on a machine that may be busy."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable

PATIENCE_SECONDS = 60  # what has not happened by then never will, however busy the machine is
AGAIN_SECONDS = 0.05
SAMPLE_EVERY_SECONDS = 0.2
SAMPLE_CPU_SECONDS = 0.003


async def until(holds: Callable[[], bool | Awaitable[bool]], seconds: float = PATIENCE_SECONDS) -> None:
    """Poll a condition that notifies nobody (a row, a line in a log). Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await _checked(holds):  # noqa: ASYNC110 nothing could wake this up
            await asyncio.sleep(AGAIN_SECONDS)


async def _checked(holds: Callable[[], bool | Awaitable[bool]]) -> bool:
    result = holds()
    return await result if inspect.isawaitable(result) else result


class Load:
    """How busy the machine is: seconds that a piece of work took per second of CPU it needed.

    1.0 on an idle machine, 2.0 where every second slice goes to somebody else.
    """

    def __init__(self) -> None:
        self._wall_seconds = self._cpu_seconds = 0.0

    def sample(self) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        while time.thread_time() - cpu < SAMPLE_CPU_SECONDS:
            pass
        self._wall_seconds += time.perf_counter() - wall
        self._cpu_seconds += time.thread_time() - cpu

    @property
    def factor(self) -> float:
        self.sample()
        return self._wall_seconds / self._cpu_seconds

    def seconds(self, promised: float) -> float:
        """What a promise of so many seconds amounts to on this machine."""
        return promised * self.factor


@contextlib.asynccontextmanager
async def measured_load() -> AsyncIterator[Load]:
    """Sample the load while the block runs: `assert took < load.seconds(5)`."""
    load = Load()

    async def keep_sampling() -> None:
        while True:
            await asyncio.to_thread(load.sample)
            await asyncio.sleep(SAMPLE_EVERY_SECONDS)

    task = asyncio.create_task(keep_sampling())
    try:
        yield load
    finally:
        task.cancel()
