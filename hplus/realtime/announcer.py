"""From a committed deed, in whatever thread, to the sockets here and to the channel layer.

In a server the switchboard's loop publishes; in a command a thread with a loop of its own does.
What is waiting for the same group travels in one message.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from channels.layers import get_channel_layer

from hplus.realtime.parcels import Parcel, Post

logger = logging.getLogger(__name__)
POSTS_AT_ONCE = 100


class Announcer:
    """Publishes in order, from one task.

    `here` takes each post at once for the sockets of this process, so that they do not depend
    on the layer; `seats` tells whether a user has one of them. Bounded: while the layer is away
    the oldest wake-ups go first, and the other servers find the letters by themselves.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        here: Callable[[Post], None] | None = None,
        seats: Callable[[str], bool] = lambda _: False,
        bound: int = 20_000,
    ) -> None:
        self.loop, self._here, self.seats = loop, here, seats
        self.origin = uuid.uuid4().hex
        self._waiting: deque[Post] = deque(maxlen=bound)
        self._task: asyncio.Task[None] | None = None

    def announce(self, posts: list[Post]) -> None:
        """From any thread."""
        self.loop.call_soon_threadsafe(self._take, posts)

    def _take(self, posts: list[Post]) -> None:
        if self._here is not None:
            for post in posts:
                self._here(post)
        self._waiting.extend(posts)
        if self._task is None or self._task.done():
            self._task = self.loop.create_task(self._publish())

    async def _publish(self) -> None:
        while self._waiting:
            count = min(POSTS_AT_ONCE, len(self._waiting))
            by_group = defaultdict(list)
            for post in [self._waiting.popleft() for _ in range(count)]:
                by_group[post.group].append((post.person, post.parcel.to_layer()))
            for group, posts in by_group.items():
                await self._send(group, posts)

    async def _send(self, group: str, posts: list[tuple[str, dict[str, Any]]]) -> None:
        layer: Any = get_channel_layer()
        message = {"type": "posts", "origin": self.origin, "group": group, "posts": posts}
        try:
            await layer.group_send(group, message)
        except Exception as unreachable:
            logger.warning("A wake-up was lost: %s", type(unreachable).__name__)

    def posts_of(self, message: dict[str, Any]) -> list[Post]:
        """What another server has sent; nothing where it was this one."""
        if message["origin"] == self.origin:
            return []
        group = message["group"]
        return [Post(group, person, Parcel.from_layer(fields)) for person, fields in message["posts"]]

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


def is_here(user_id: str) -> bool:
    """Whether this user has a registered socket in this process. From any thread."""
    return _current is not None and _current.seats(user_id)


def _background_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="announcer", daemon=True).start()
    return loop


def flush(timeout_seconds: float = 5) -> None:
    """Before a command ends: what it said has left the process."""
    if _current is not None and not _current.loop.is_closed():
        asyncio.run_coroutine_threadsafe(_current.drained(), _current.loop).result(timeout_seconds)
