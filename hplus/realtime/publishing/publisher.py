"""From a committed action, in whatever thread, to the connections here and to the channel layer.

In a server the hub's loop publishes; in a command a thread with a loop of its own does. What waits
for the same group travels in one message.
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
from django.conf import settings

from hplus.realtime.groups import PERSONS
from hplus.realtime.publishing.envelopes import Delivery, Envelope

logger = logging.getLogger(__name__)
DELIVERIES_AT_ONCE = 100


class Publisher:
    """Publishes in order, from one task.

    `deliver_locally` takes each delivery at once for the connections of this process, so that they do
    not depend on the layer; `has_connection` tells whether a user has one of them. Nothing is published
    while this server `is_alone`. Bounded: while the layer is away the oldest wake-ups are dropped, and the
    other servers find the entries by themselves.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deliver_locally: Callable[[Delivery], None] | None = None,
        has_connection: Callable[[str], bool] = lambda _: False,
        is_alone: Callable[[], bool] = lambda: False,
        bound: int = 20_000,
    ) -> None:
        self.loop, self._deliver_locally, self.has_connection = loop, deliver_locally, has_connection
        self._is_alone = is_alone
        self.origin = uuid.uuid4().hex
        self._bound = bound
        self._waiting: deque[Delivery] = deque()
        self._waiting_bytes = 0
        self._task: asyncio.Task[None] | None = None

    def publish(self, deliveries: list[Delivery]) -> None:
        """Hand over what has been committed. From any thread."""
        self.loop.call_soon_threadsafe(self.publish_in_loop, deliveries)

    def publish_in_loop(self, deliveries: list[Delivery]) -> None:
        """Like `publish`, from the loop: the connections here have it when this returns."""
        if self._deliver_locally is not None:
            for delivery in deliveries:
                self._deliver_locally(delivery)
        if self._is_alone():
            return
        for delivery in deliveries:
            self._waiting.append(delivery)
            self._waiting_bytes += len(delivery.envelope.frame)
        while len(self._waiting) > self._bound or self._waiting_bytes > settings.PUBLISHER_BYTES:
            self._next()
        if self._task is None or self._task.done():
            self._task = self.loop.create_task(self._publish_waiting())

    def _next(self) -> Delivery:
        delivery = self._waiting.popleft()
        self._waiting_bytes -= len(delivery.envelope.frame)
        return delivery

    async def _publish_waiting(self) -> None:
        while self._waiting:
            count = min(DELIVERIES_AT_ONCE, len(self._waiting))
            by_group = defaultdict(list)
            for delivery in [self._next() for _ in range(count)]:
                by_group[delivery.group].append((delivery.person, delivery.envelope.to_layer()))
            for group, deliveries in by_group.items():
                await self._send(group, deliveries)

    async def _send(self, group: str, deliveries: list[tuple[str, dict[str, Any]]]) -> None:
        layer: Any = get_channel_layer()
        message = {
            "type": "deliveries",
            "origin": self.origin,
            "is_server": self._deliver_locally is not None,
            "group": group,
            "deliveries": deliveries,
        }
        try:
            await layer.group_send(group, message)
        except Exception as unreachable:
            logger.warning("A wake-up was lost: %s", type(unreachable).__name__)

    async def say_hello(self) -> None:
        """Tell the other servers that this one listens from now on."""
        await self._send(PERSONS, [])

    def deliveries_of(self, message: dict[str, Any]) -> list[Delivery]:
        """Return what another server has published; nothing where it was this one."""
        if message["origin"] == self.origin:
            return []
        group = message["group"]
        return [
            Delivery(group, person, Envelope.from_layer(fields)) for person, fields in message["deliveries"]
        ]

    async def drained(self) -> None:
        """Wait until everything handed over so far has been published, or could not be."""
        await asyncio.sleep(0)
        if self._task is not None:
            await self._task


_current: Publisher | None = None
_lock = threading.Lock()


def set_publisher(publisher: Publisher | None) -> None:
    """Set the loop that publishes in this process; None where it has none any more."""
    global _current
    _current = publisher


def publish(deliveries: list[Delivery]) -> None:
    """Deliver these, after their commit. From any thread."""
    with _lock:
        if _current is None or _current.loop.is_closed():
            set_publisher(Publisher(_background_loop()))
        publisher = _current
    assert publisher is not None
    publisher.publish(deliveries)


def publish_in_loop(deliveries: list[Delivery]) -> None:
    """Deliver these, after their commit. From the loop of the server."""
    assert _current is not None
    _current.publish_in_loop(deliveries)


def has_connection(user_id: str) -> bool:
    """Whether this user has a registered connection in this process. From any thread."""
    return _current is not None and _current.has_connection(user_id)


def _background_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="publisher", daemon=True).start()
    return loop


def flush(timeout_seconds: float = 5) -> None:
    """Wait until what a command published has left the process."""
    if _current is not None and not _current.loop.is_closed():
        asyncio.run_coroutine_threadsafe(_current.drained(), _current.loop).result(timeout_seconds)
