"""Rate limits: token buckets per user, in this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from django.conf import settings

from hplus import errors

BURST = 60  # a phone that reconnects sends what it had queued
# For frames of any type, also of those without a limit of their own, so that nobody keeps a server busy.
FRAMES_PER_SECOND = 50
FRAMES_BURST = 300
TURN_SECONDS = 2  # how long a request waits for another long answer of its user


class Bucket:
    """Holds up to `burst` credits and regains `per_second`."""

    __slots__ = ("_at", "_credits", "burst", "per_second")

    def __init__(self, per_second: float, burst: float) -> None:
        self.per_second, self.burst = per_second, burst
        self._credits, self._at = burst, time.monotonic()

    def take(self) -> float:
        """Spend one credit. Returns 0, or the seconds until there will be one."""
        now = time.monotonic()
        self._credits = min(self.burst, self._credits + (now - self._at) * self.per_second)
        self._at = now
        if self._credits < 1:
            return (1 - self._credits) / self.per_second
        self._credits -= 1
        return 0

    def charge(self, cost: int) -> None:
        """Spend credits for what has been read already; there may be none for a while, at most a burst's."""
        self._credits = max(-self.burst, self._credits - cost)


class Buckets:
    """A bucket for each key; the least recently used are forgotten."""

    def __init__(self, make: Callable[[], Bucket], most: int = 50_000) -> None:
        self._make, self._most = make, most
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, key: str) -> float:
        """Spend one credit of this key. Returns 0, or the seconds until there will be one."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = self._make()
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket.take()

    def charge(self, key: str, cost: int) -> None:
        """Spend credits of this key for what has been read already."""
        if cost and (bucket := self._buckets.get(key)):
            bucket.charge(cost)

    def forget(self) -> None:
        self._buckets.clear()


def message_limit_of_a_user() -> Bucket:
    per_minute = settings.HPLUS_MESSAGES_PER_MINUTE
    return Bucket(per_minute / 60, max(BURST, per_minute / 10))


def _frame_limit_of_a_user() -> Bucket:
    return Bucket(FRAMES_PER_SECOND, FRAMES_BURST)


class Turns:
    """One long answer of a person at a time in this process, over all connections and HTTP."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: set[str] = set()

    @contextmanager
    def at_once(self, user_id: str) -> Iterator[None]:
        """Have the turn. Raises RateLimited where another answer of this person has it."""
        if not self._begin(user_id):
            raise errors.RateLimited("One long answer at a time.", retry_after=TURN_SECONDS)
        try:
            yield
        finally:
            self._busy.discard(user_id)

    @asynccontextmanager
    async def in_turn(self, user_id: str) -> AsyncIterator[None]:
        """Wait TURN_SECONDS for the turn, then have it. Raises RateLimited."""
        until = time.monotonic() + TURN_SECONDS
        while user_id in self._busy and time.monotonic() < until:  # noqa: ASYNC110 a thread may have it
            await asyncio.sleep(TURN_SECONDS / 50)
        with self.at_once(user_id):
            yield

    def _begin(self, user_id: str) -> bool:
        with self._lock:
            is_free = user_id not in self._busy
            self._busy.add(user_id)
            return is_free


long_answers = Turns()
message_limits = Buckets(message_limit_of_a_user)  # requests that are rate limited, by userId
frame_limits = Buckets(_frame_limit_of_a_user)  # all frames, by userId


def forget() -> None:
    """A server that starts has limited nobody yet."""
    message_limits.forget()
    frame_limits.forget()
