"""The one bridge from the loop to the database: a small thread pool of our own.

Channels' own bridge runs everything on a single thread, so one slow query would stall every
socket. Here a deed gets a thread, a connection from the pool and a bounded time; on SQLite
each thread keeps its connection.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, reset_queries

from hplus import errors

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

# Nobody waits behind others: a deed behind a thousand phones that come back at once, they behind a
# flood of deeds, or a server's rounds behind both.
_deeds = ThreadPoolExecutor(settings.DEED_THREADS, thread_name_prefix="deed")
_door = ThreadPoolExecutor(settings.DOOR_THREADS, thread_name_prefix="door")
_rounds = ThreadPoolExecutor(1, thread_name_prefix="round")


async def in_thread(action: Callable[..., Result], *args: Any) -> Result:
    """Run an action in the pool. Raises InternalError where the database does not answer in time.

    The thread itself can't be stopped, so the deed may still be done later; a client that
    repeats it with the same clientMessageId learns so.
    """
    return await _run(_deeds, action, *args)


async def at_the_door(action: Callable[..., Result], *args: Any) -> Result:
    """Like `in_thread`, on the threads kept free for those who come and go."""
    return await _run(_door, action, *args)


async def in_round(action: Callable[..., Result], *args: Any) -> Result:
    """Like `in_thread`, on the thread kept free for a server's rounds."""
    return await _run(_rounds, action, *args)


class Line:
    """Those who wait behind each other for the database, on one socket or at the door.

    Each has all the time for itself. But behind one who got no answer it runs since each came, or
    the last would wait as long as all of them together.
    """

    def __init__(self) -> None:
        self.is_stuck = False

    async def ask(self, came_at: float, question: Callable[..., Awaitable[Result]], *args: Any) -> Result:
        """`came_at` in the time of the loop. Raises InternalError where there is no answer in time."""
        until = came_at + settings.DEED_SECONDS if self.is_stuck else None
        if until and until < asyncio.get_running_loop().time():
            raise away("it waited behind others")
        try:
            async with asyncio.timeout_at(until):
                answer = await question(*args)
        except TimeoutError:
            raise away("it waited behind others") from None
        except errors.InternalError:
            self.is_stuck = True
            raise
        self.is_stuck = False
        return answer


async def _run(pool: ThreadPoolExecutor, action: Callable[..., Result], *args: Any) -> Result:
    work = asyncio.get_running_loop().run_in_executor(pool, _with_connection, action, *args)
    try:
        done, _ = await asyncio.wait({work}, timeout=settings.DEED_SECONDS)
    finally:
        work.cancel()  # what has not begun must not be done before what is asked next
    if not done:
        raise away("no answer in time")
    return work.result()


def _with_connection(action: Callable[..., Result], *args: Any) -> Result:
    close_old_connections()
    reset_queries()  # with DEBUG each thread would keep its last nine thousand
    try:
        return action(*args)
    except (InterfaceError, OperationalError) as broken:
        if not _is_away(broken):
            raise
        raise away(type(broken.__cause__).__name__) from None
    finally:
        close_old_connections()


def _is_away(broken: Exception) -> bool:
    """Whether it is the connection that failed (SQLSTATE 08 and 57P, or none), not what was asked."""
    state = getattr(broken.__cause__, "sqlstate", None)
    return state is None or state.startswith(("08", "57P"))


def away(how: str) -> errors.InternalError:
    """The answer to a client, and a line in the log under the same reference."""
    reference = uuid.uuid4().hex[:12]
    logger.warning("The database does not answer (%s): %s", reference, how)
    return errors.InternalError(
        "The database does not answer. Please try again.", retry_after=1, reference=reference
    )
