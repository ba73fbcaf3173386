"""Token buckets, in this process: each server process counts for itself."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable


class Bucket:
    """Holds up to `burst` credits and regains `per_second`."""

    __slots__ = ("_at", "_credits", "burst", "per_second")

    def __init__(self, per_second: float, burst: float) -> None:
        self.per_second, self.burst = per_second, burst
        self._credits, self._at = burst, time.monotonic()

    def take(self, cost: int = 1) -> float:
        """Spend so many credits. Returns 0, or the seconds until there will be so many."""
        wait = self.wait_seconds(cost)
        if not wait:
            self._credits -= cost
        return wait

    def wait_seconds(self, cost: int = 1) -> float:
        """Return the seconds until there are so many credits; 0 where there are."""
        now = time.monotonic()
        self._credits = min(self.burst, self._credits + (now - self._at) * self.per_second)
        self._at = now
        return 0 if self._credits >= cost else (cost - self._credits) / self.per_second

    def charge(self, cost: int) -> None:
        """Spend credits for what has been read already; there may be none for a while, at most a burst's."""
        self._credits = max(-self.burst, self._credits - cost)


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

    def charge(self, key: str, cost: int) -> None:
        """Spend credits of this key for what has been read already."""
        if cost and (bucket := self._buckets.get(key)):
            bucket.charge(cost)

    def wait_seconds(self, key: str) -> float:
        """Return the seconds until this key has a credit; 0 where it has one."""
        bucket = self._buckets.get(key)
        return bucket.wait_seconds() if bucket else 0

    def forget(self) -> None:
        self._buckets.clear()
