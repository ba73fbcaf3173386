"""Rate limits: token buckets per user, in this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from django.conf import settings

from hplus import errors
from hplus.api.token_buckets import Bucket, Buckets

BURST = 60  # a phone that reconnects sends what it had queued
# For frames of any type, also of those without a limit of their own, so that nobody keeps a server busy.
FRAMES_PER_SECOND = 50
FRAMES_BURST = 300
TURN_SECONDS = 2  # how long a request waits for another long answer of its user


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
