"""Simulated time: one clock for all processes, an event loop for each, and chance that a seed repeats."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from asyncio import events
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

BEGINNING = 1_000.0  # seconds; some code takes 0 for never
CALLBACKS_AT_ONCE = 200_000  # in one instant; more is a loop without end


class Chance:
    """Random numbers that depend on the seed, on what they are for, and on how often that was asked.

    So the order in which a set is iterated changes nothing.
    """

    def __init__(self, seed: int) -> None:
        self._seed, self._asked = seed, Counter[tuple[object, ...]]()

    def fraction(self, *purpose: object) -> float:
        """Return a number from 0 up to 1."""
        self._asked[purpose] += 1
        key = repr((self._seed, purpose, self._asked[purpose]))
        return int.from_bytes(blake2b(key.encode(), digest_size=6).digest()) / 2**48

    def seconds(self, most: float, *purpose: object) -> float:
        """Return a delay: mostly a short one, of at most so many seconds."""
        return most * self.fraction(*purpose) ** 3

    def happens(self, probability: float, *purpose: object) -> bool:
        return probability > 0 and self.fraction(*purpose) < probability


class Clock:
    """Runs the callbacks of all processes, in the order of their times and then of their scheduling."""

    def __init__(self) -> None:
        self.now = BEGINNING
        self._scheduled: list[tuple[float, int, asyncio.Handle, Process]] = []
        self._order = itertools.count()

    def schedule(self, at: float, handle: asyncio.Handle, process: Process) -> None:
        heapq.heappush(self._scheduled, (max(at, self.now), next(self._order), handle, process))

    def run_for(self, seconds: float) -> None:
        """Let so much time pass. Raises RuntimeError where an instant does not end."""
        until, at_once = self.now + seconds, 0
        while self._scheduled and self._scheduled[0][0] <= until:
            at, order, handle, process = heapq.heappop(self._scheduled)
            at_once = at_once + 1 if at == self.now else 0
            if at_once > CALLBACKS_AT_ONCE:
                raise RuntimeError(f"time stands still: {handle!r}")
            self.now = at
            if process.is_dead or handle.cancelled():
                continue
            if process.frozen_until > at:
                heapq.heappush(self._scheduled, (process.frozen_until, order, handle, process))
            else:
                process.run(handle)
        self.now = until


class Process(asyncio.AbstractEventLoop):
    """The event loop of one process, and its threads. It can be frozen, and killed without a warning.

    `on_enter` is called before each of its callbacks; a callback that raises is noted in `broken`. The work
    of a thread takes at most `work_seconds`.
    """

    def __init__(
        self, clock: Clock, chance: Chance, name: str, work_seconds: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.clock, self.chance, self.name = clock, chance, name
        self._work_seconds = work_seconds
        self.is_dead, self.frozen_until = False, 0.0
        self.on_enter: Callable[[], None] = lambda: None
        self.broken: list[BaseException] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self._busy_until: dict[object, list[float]] = {}

    def run(self, handle: asyncio.Handle) -> None:
        self.on_enter()
        events._set_running_loop(self)
        try:
            handle._run()
        finally:
            events._set_running_loop(None)

    def kill(self) -> None:
        """Nothing of it runs any more, not even what would clean up."""
        self.is_dead = True

    def bury(self) -> None:
        """End what a killed process left, so that nothing of it is collected as garbage later on."""
        self.is_dead, self.frozen_until = False, 0.0
        for task in self.tasks:
            task.cancel()
        self.clock.run_for(0)
        self.is_dead = True

    # What asyncio asks of a loop

    def time(self) -> float:
        return self.clock.now

    def call_soon(
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.clock.schedule(self.clock.now, handle, self)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.clock.schedule(when, handle, self)
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.clock.now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer stays where it is until its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, **options)
        self.tasks = [earlier for earlier in self.tasks if not earlier.done()]
        self.tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Run it some time later, as a whole, and return what it returned some time after that."""
        future = self.create_future()
        most, purpose = self._work_seconds() / 2, (self.name, executor._thread_name_prefix)
        begin = self._begin_of(executor) + self.chance.seconds(most, *purpose, "begin")
        end = begin + self.chance.seconds(most, *purpose, "end")
        heapq.heappush(self._busy_until[executor], end)
        self.call_at(begin, self._work, future, end, func, args)
        return future

    def _begin_of(self, executor: Any) -> float:
        """When one of its threads is free."""
        threads = self._busy_until.setdefault(executor, [self.clock.now] * executor._max_workers)
        return max(self.clock.now, heapq.heappop(threads))

    def _work(self, future: asyncio.Future[Any], end: float, func: Callable[..., Any], args: Any) -> None:
        if future.cancelled():
            return
        events._set_running_loop(None)  # a thread has none
        try:
            outcome, give = func(*args), future.set_result
        except Exception as failed:
            outcome, give = failed, future.set_exception
        self.call_at(end, lambda: future.done() or give(outcome))

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return self.is_dead

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if "handle" in context:
            self.broken.append(context["exception"])
