"""Waiting for what must happen, however busy the machine is."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

PATIENCE_SECONDS = 120  # what has not happened by then never will, however busy the machine is
AGAIN_SECONDS = 0.05


async def until(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    """Poll a condition that notifies nobody (a row, a line in a log). Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await _checked(holds):  # noqa: ASYNC110 nothing could wake this up
            await asyncio.sleep(AGAIN_SECONDS)


async def _checked(holds: Callable[[], bool | Awaitable[bool]]) -> bool:
    result = holds()
    return await result if inspect.isawaitable(result) else result
