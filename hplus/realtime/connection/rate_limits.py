"""Rate limits: token buckets per user, in this process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from django.conf import settings

BURST = 60  # a phone that reconnects sends what it had queued
# For frames of any type, also of those without a limit of their own, so that nobody keeps a server busy.
FRAMES_PER_SECOND = 50
FRAMES_BURST = 300


class Bucket:
    """Holds up to `burst` credits and regains `per_second`."""

    __slots__ = ("_at", "_credits", "burst", "per_second")

    def __init__(self, per_second: float, burst: float) -> None:
        self.per_second, self.burst = per_second, burst
        self._credits, self._at = burst, time.monotonic()

    def take(self, cost: int = 1) -> float:
        """Spend so many credits. Returns 0, or the seconds until there will be so many."""
        now = time.monotonic()
        self._credits = min(self.burst, self._credits + (now - self._at) * self.per_second)
        self._at = now
        if self._credits < cost:
            return (cost - self._credits) / self.per_second
        self._credits -= cost
        return 0


class Buckets:
    """A bucket for each key; the least recently used are forgotten."""

    def __init__(self, make: Callable[[], Bucket], most: int = 50_000) -> None:
        self._make, self._most = make, most
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, key: str, cost: int = 1) -> float:
        """Spend so many credits of this key. Returns 0, or the seconds until there will be so many."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = self._make()
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket.take(cost)

    def forget(self) -> None:
        self._buckets.clear()


def message_limit_of_a_user() -> Bucket:
    per_minute = settings.HPLUS_MESSAGES_PER_MINUTE
    return Bucket(per_minute / 60, max(BURST, per_minute / 10))


def _frame_limit_of_a_user() -> Bucket:
    return Bucket(FRAMES_PER_SECOND, FRAMES_BURST)


message_limits = Buckets(message_limit_of_a_user)  # requests that are rate limited, by userId
frame_limits = Buckets(_frame_limit_of_a_user)  # all frames, by userId


def forget() -> None:
    """A server that starts has limited nobody yet."""
    message_limits.forget()
    frame_limits.forget()
