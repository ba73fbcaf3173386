"""Batching: what waited during the last commit is written in one transaction.

One command alone is the normal case; nobody waits for a timer. A batch that fails is retried row by
row, so that one bad row costs one error.

What nobody waits for (marks that a message was delivered) may be written at most every so many seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from django.conf import settings

from hplus import errors
from hplus.realtime.execution.db_threads import database_unavailable, in_db_thread

C = TypeVar("C")  # a command
Outcome = Any  # a Result, or the Refusal of this one command
COMMANDS_AT_ONCE = 128


class Batch(Generic[C]):
    """The queue in front of one action that takes a list and returns an outcome for each."""

    def __init__(self, action: Callable[[list[C]], list[Outcome]], every_seconds: float = 0) -> None:
        self._action = action
        self._every_seconds = every_seconds
        self._draining = asyncio.Event()
        self._waiting: list[tuple[C, asyncio.Future[Outcome]]] = []
        self._task: asyncio.Task[None] | None = None

    async def submit(self, command: C) -> Any:
        """Return the command's result once it is durable. Raises its refusal, or InternalError in time."""
        try:
            return await asyncio.wait_for(self.add(command), settings.ACTION_TIMEOUT_SECONDS)
        except TimeoutError:
            raise database_unavailable("it waited behind others") from None

    def add(self, command: C) -> asyncio.Future[Outcome]:
        """Queue the command for a caller that does not wait."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write())
        return future

    async def _write(self) -> None:
        while self._waiting:
            began_at = asyncio.get_running_loop().time()
            batch, self._waiting = self._waiting[:COMMANDS_AT_ONCE], self._waiting[COMMANDS_AT_ONCE:]
            # Who was told that it failed may try again; it must not be done behind their back.
            batch = [(command, future) for command, future in batch if not future.done()]
            outcomes = await outcomes_of(in_db_thread, self._action, [command for command, _ in batch])
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                _resolve(future, outcome)
            if self._every_seconds:
                await self._wait_for_others(began_at + self._every_seconds)

    async def _wait_for_others(self, until: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._draining.wait()

    async def drained(self) -> None:
        """Write what waits, without waiting for others any more."""
        self._draining.set()
        if self._task is not None:
            await self._task


async def outcomes_of(
    run_in_thread: Callable[..., Awaitable[Any]],
    action: Callable[[list[C]], list[Outcome]],
    commands: list[C],
) -> list[Outcome]:
    """Return one outcome for each command, whatever happens: a waiting client is never left alone.

    A batch that fails is repeated command by command, so that one that can't be done costs one error; one
    that the database did not answer is not.
    """
    try:
        outcomes: list[Outcome] = await run_in_thread(action, commands)
        if len(outcomes) != len(commands):
            raise RuntimeError(f"{len(outcomes)} outcomes for {len(commands)} commands")
        return outcomes
    except errors.InternalError as unanswered:
        return [unanswered] * len(commands)
    except Exception as broken:
        if len(commands) == 1:
            return [broken]
        return [(await outcomes_of(run_in_thread, action, [command]))[0] for command in commands]


def _resolve(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if future.done():  # its client has gone
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
        future.exception()  # what nobody waits for is logged by the action
    else:
        future.set_result(outcome)
