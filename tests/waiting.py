"""Waiting for what calls nobody: a row in the database, a line in a log."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

AGAIN_SECONDS = 0.05


async def until(holds: Callable[[], bool | Awaitable[bool]], seconds: float = 10) -> None:
    """Looks again and again, for so long. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await _looked(holds):  # noqa: ASYNC110 what is waited for here calls nobody
            await asyncio.sleep(AGAIN_SECONDS)


async def _looked(holds: Callable[[], bool | Awaitable[bool]]) -> bool:
    seen = holds()
    return await seen if inspect.isawaitable(seen) else seen
