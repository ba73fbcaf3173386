"""Batching at the admission: one flight for all who wait, one flight after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.conf import settings

from hplus import errors
from hplus.realtime.execution.batching import outcomes_of
from hplus.realtime.execution.db_threads import database_unavailable, in_admission_thread

C = TypeVar("C")  # a command
Outcome = Any  # what its action returns for it, or an exception
COMMANDS_A_FLIGHT = 64
FLIGHT_SECONDS = 0.25  # a flight that took longer is followed by a smaller one, a shorter one by a larger one


@dataclass(slots=True, eq=False)
class _Waiting(Generic[C]):
    command: C
    came_at: float  # in the time of the loop
    outcome: asyncio.Future[Any]

    def resolve(self, outcome: Outcome) -> None:
        if self.outcome.done():
            return
        if isinstance(outcome, BaseException):
            self.outcome.set_exception(outcome)
        else:
            self.outcome.set_result(outcome)


class AdmissionBatch(Generic[C]):
    """The queue in front of an action that takes all who wait and returns an outcome for each.

    Unlike in `execution.batching.Batch`, those who wait never time out: after a restart all clients come
    back together, and a refused one would only try again. Behind a flight without an answer each waits
    ACTION_TIMEOUT_SECONDS since it came. So that a flight lands in time whatever its commands need, it takes
    as many as FLIGHT_SECONDS were enough for.
    """

    def __init__(self, action: Callable[[list[C]], list[Outcome]], most: int = COMMANDS_A_FLIGHT) -> None:
        self._action, self._most, self._size = action, most, min(8, most)
        self._waiting: list[_Waiting[C]] = []
        self._is_stuck = False  # the last flight got no answer
        self._task: asyncio.Task[None] | None = None

    async def submit(self, command: C) -> Any:
        """Return the command's outcome. Raises its refusal, or InternalError where the database is away."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(command, loop.time(), loop.create_future())
        self._waiting.append(waiting)
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._fly_all())
        return await waiting.outcome

    async def _fly_all(self) -> None:
        while self._waiting:
            flying, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
            began_at = asyncio.get_running_loop().time()
            await self._fly([waiting for waiting in flying if not waiting.outcome.done()])
            self._adapt(asyncio.get_running_loop().time() - began_at)

    def _adapt(self, took_seconds: float) -> None:
        self._size = (
            max(1, self._size // 2) if took_seconds > FLIGHT_SECONDS else min(self._most, 2 * self._size)
        )

    async def _fly(self, flying: list[_Waiting[C]]) -> None:
        commands = [waiting.command for waiting in flying]
        flight = asyncio.ensure_future(outcomes_of(in_admission_thread, self._action, commands))
        if self._is_stuck and not await self._lands_in_time(flight, flying):
            flight.cancel()
            return
        outcomes = await flight
        self._is_stuck = any(isinstance(outcome, errors.InternalError) for outcome in outcomes)
        for waiting, outcome in zip(flying, outcomes, strict=True):
            waiting.resolve(outcome)

    async def _lands_in_time(self, flight: asyncio.Future[Any], flying: list[_Waiting[C]]) -> bool:
        """Refuse one after another, as they came, until the flight lands. Returns whether it did."""
        now = asyncio.get_running_loop().time
        for waiting in flying:
            left_seconds = waiting.came_at + settings.ACTION_TIMEOUT_SECONDS - now()
            if (await asyncio.wait({flight}, timeout=max(0, left_seconds)))[0]:
                return True
            waiting.resolve(database_unavailable("it waited behind others"))
        return False
