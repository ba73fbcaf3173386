"""From a committed deed, in whatever thread, to the channel layer.

In a server the switchboard's loop publishes; in a command a thread with a loop of its own does.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from typing import Any

from channels.layers import get_channel_layer

from hplus.realtime.parcels import Parcel, to_layer

logger = logging.getLogger(__name__)
Post = tuple[str, Parcel]
TOGETHER = 64  # parcels for one group in one message


class Announcer:
    """Publishes in order, from one task. Bounded: while the layer is away the oldest wake-ups go first,
    and the listeners find the letters by themselves."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bound: int = 20_000) -> None:
        self.loop = loop
        self._waiting: deque[Post] = deque(maxlen=bound)
        self._task: asyncio.Task[None] | None = None

    def announce(self, posts: list[Post]) -> None:
        """From any thread."""
        self.loop.call_soon_threadsafe(self._take, posts)

    def _take(self, posts: list[Post]) -> None:
        self._waiting.extend(posts)
        if self._task is None or self._task.done():
            self._task = self.loop.create_task(self._publish())

    async def _publish(self) -> None:
        layer: Any = get_channel_layer()
        while self._waiting:
            group, parcels = self._next()
            try:
                await layer.group_send(group, to_layer(group, parcels))
            except Exception as unreachable:
                logger.warning("A wake-up was lost: %s", type(unreachable).__name__)

    def _next(self) -> tuple[str, list[Parcel]]:
        """What waits in front for one and the same group; hundreds of positions are a few messages."""
        group, parcel = self._waiting.popleft()
        parcels = [parcel]
        while self._waiting and self._waiting[0][0] == group and len(parcels) < TOGETHER:
            parcels.append(self._waiting.popleft()[1])
        return group, parcels

    async def drained(self) -> None:
        """Everything handed over so far has been published, or could not be."""
        await asyncio.sleep(0)
        if self._task is not None:
            await self._task


_current: Announcer | None = None
_lock = threading.Lock()


def speak_from(announcer: Announcer | None) -> None:
    """This process has a server loop from now on (or, with None, no longer)."""
    global _current
    _current = announcer


def announce(posts: list[Post]) -> None:
    """After a commit: to the layer."""
    with _lock:
        if _current is None or _current.loop.is_closed():
            speak_from(Announcer(_background_loop()))
        announcer = _current
    assert announcer is not None
    announcer.announce(posts)


def _background_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="announcer", daemon=True).start()
    return loop


def flush(timeout_seconds: float = 5) -> None:
    """Before a command ends: what it said has left the process."""
    if _current is not None and not _current.loop.is_closed():
        asyncio.run_coroutine_threadsafe(_current.drained(), _current.loop).result(timeout_seconds)
