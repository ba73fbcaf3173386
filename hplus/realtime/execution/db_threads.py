"""The one way from the loop to the database: small thread pools of our own.

Channels' own `database_sync_to_async` runs everything on a single thread, so one slow query would stall
every connection. Here an action gets a thread, a database connection from the pool and a bounded time; on
SQLite each thread keeps its database connection.
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
T = TypeVar("T")

# Pools of their own, so that an action never waits behind a thousand phones that come back at once, these
# never behind a flood of requests, the reconciliation of a server behind neither, and a call for help behind
# nothing. Each thread has its place among the connections of the database (`settings.DATABASES`).
_actions = ThreadPoolExecutor(settings.ACTION_THREADS, thread_name_prefix="action")
_urgent = ThreadPoolExecutor(settings.URGENT_THREADS, thread_name_prefix="urgent")
_admission = ThreadPoolExecutor(settings.ADMISSION_THREADS, thread_name_prefix="admission")
_reconciliation = ThreadPoolExecutor(1, thread_name_prefix="reconciliation")
_health = ThreadPoolExecutor(1, thread_name_prefix="health")


async def in_db_thread(action: Callable[..., T], *args: Any) -> T:
    """Run an action in a thread. Raises InternalError where the database does not answer in time.

    The thread itself can't be stopped, so the action may still commit later; a client that repeats it
    with the same clientMessageId gets `duplicate`.
    """
    return await _run(_actions, action, *args)


async def in_urgent_thread(action: Callable[..., T], *args: Any) -> T:
    """Like `in_db_thread`, on the threads reserved for calls for help and their answers."""
    return await _run(_urgent, action, *args)


async def in_admission_thread(action: Callable[..., T], *args: Any) -> T:
    """Like `in_db_thread`, on the threads reserved for arrivals and departures.

    What they do is safe to repeat, and is repeated once where its database connection breaks.
    """
    return await _run(_admission, _twice_if_broken, action, *args)


async def in_reconciliation_thread(action: Callable[..., T], *args: Any) -> T:
    """Like `in_db_thread`, on the thread reserved for the reconciliation of this server."""
    return await _run(_reconciliation, action, *args)


async def in_health_thread(action: Callable[..., T], *args: Any) -> T:
    """Like `in_db_thread`, on the thread reserved for asking whether the database answers."""
    return await _run(_health, action, *args)


class Deadline:
    """How long requests that wait behind one another may take, on one connection or at the admission.

    Each has ACTION_TIMEOUT_SECONDS for itself. Behind one that got no answer the time runs since each
    came, or the last would wait as long as all of them together.
    """

    __slots__ = ("is_stuck",)

    def __init__(self) -> None:
        self.is_stuck = False

    async def run(self, came_at: float, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """`came_at` in the time of the loop. Raises InternalError where there is no answer in time."""
        until = came_at + settings.ACTION_TIMEOUT_SECONDS if self.is_stuck else None
        if until and until < asyncio.get_running_loop().time():
            raise database_unavailable("it waited behind others")
        try:
            async with asyncio.timeout_at(until):
                result = await function(*args)
        except TimeoutError:
            raise database_unavailable("it waited behind others") from None
        except errors.InternalError:
            self.is_stuck = True
            raise
        self.is_stuck = False
        return result


async def _run(pool: ThreadPoolExecutor, action: Callable[..., T], *args: Any) -> T:
    work = asyncio.get_running_loop().run_in_executor(pool, _with_connection, action, *args)
    try:
        done, _ = await asyncio.wait({work}, timeout=settings.ACTION_TIMEOUT_SECONDS)
    finally:
        work.cancel()  # what has not begun must not be done before what is asked next
    if not done:
        raise database_unavailable("no answer in time")
    return work.result()


def _with_connection(action: Callable[..., T], *args: Any) -> T:
    close_old_connections()
    reset_queries()  # with DEBUG each thread would keep its last nine thousand
    try:
        return action(*args)
    except (InterfaceError, OperationalError) as broken:
        if not is_connection_failure(broken):
            raise
        raise database_unavailable(type(broken.__cause__).__name__) from None
    finally:
        close_old_connections()


def _twice_if_broken(action: Callable[..., T], *args: Any) -> T:
    """Run an action that may be repeated, on a second connection where the first one breaks."""
    try:
        return action(*args)
    except (InterfaceError, OperationalError) as broken:
        if not is_connection_failure(broken):
            raise
    close_old_connections()
    return action(*args)


def is_connection_failure(broken: Exception) -> bool:
    """Whether the connection failed (SQLSTATE 08 and 57P, or none), and not the statement."""
    state = getattr(broken.__cause__, "sqlstate", None)
    return state is None or state.startswith(("08", "57P"))


def database_unavailable(how: str) -> errors.InternalError:
    """Make the refusal for the client, and log it under the same reference."""
    reference = uuid.uuid4().hex[:12]
    logger.warning("The database does not answer (%s): %s", reference, how)
    return errors.InternalError(
        "The database does not answer. Please try again.", retry_after=1, reference=reference
    )
