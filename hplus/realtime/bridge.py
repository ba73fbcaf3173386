"""The one bridge from the loop to the database: a small thread pool of our own.

Channels' own bridge runs everything on a single thread, so one slow query would stall every
socket. Here a deed gets a thread, a connection from the pool and a bounded time; on SQLite
each thread keeps its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.conf import settings
from django.db import close_old_connections

from hplus import errors

Result = TypeVar("Result")

# Seats, arrivals and departures must not queue behind a flood of deeds, nor rounds behind both.
_deeds = ThreadPoolExecutor(settings.DEED_THREADS, thread_name_prefix="deed")
_rounds = ThreadPoolExecutor(1, thread_name_prefix="round")


async def in_thread(action: Callable[..., Result], *args: Any) -> Result:
    """Run an action in the pool. Raises InternalError where the database does not answer in time.

    The thread itself can't be stopped, so the deed may still be done later; a client that
    repeats it with the same clientMessageId learns so.
    """
    return await _run(_deeds, action, *args)


async def in_round(action: Callable[..., Result], *args: Any) -> Result:
    """Like `in_thread`, on the thread kept free for a server's rounds."""
    return await _run(_rounds, action, *args)


async def _run(pool: ThreadPoolExecutor, action: Callable[..., Result], *args: Any) -> Result:
    work = asyncio.get_running_loop().run_in_executor(pool, _with_connection, action, *args)
    done, _ = await asyncio.wait({work}, timeout=settings.DEED_SECONDS)
    if not done:
        work.add_done_callback(_forget)
        raise errors.InternalError("The database does not answer. Please try again.", retry_after=1)
    return work.result()


def _with_connection(action: Callable[..., Result], *args: Any) -> Result:
    close_old_connections()
    try:
        return action(*args)
    finally:
        close_old_connections()


def _forget(late: asyncio.Future[Any]) -> None:
    """Nobody waits for this result any more; its exception was answered as a time-out."""
    if not late.cancelled():
        late.exception()
