"""What a server process subscribes to on the channel layer: the groups its connections listen to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from channels.layers import get_channel_layer

from hplus.realtime.groups import PERSONS


class Subscriptions:
    """One channel, and the groups it is in: the keys of `wanted`, and always the group of all persons.

    Where the layer does not answer, groups stay unsettled until it does.
    """

    def __init__(self, wanted: Mapping[str, object]) -> None:
        self._wanted = wanted
        self._layer: Any = get_channel_layer()
        self._channel = ""
        self._subscribed: set[str] = set()
        self._unsettled: set[str] = set()  # groups whose subscription may not be what it should
        self._settling = asyncio.Lock()

    async def begin(self) -> None:
        """Make a new channel, which is in no group yet."""
        async with self._settling:
            self._channel = await self._layer.new_channel()
            self._subscribed.clear()
            await self._layer.group_add(PERSONS, self._channel)
            self._unsettled |= self._wanted.keys()
        await self.settle()

    def receive(self) -> Awaitable[dict[str, Any]]:
        """Wait for the next message to any of the groups."""
        return self._layer.receive(self._channel)

    def joined(self, names: set[str]) -> None:
        """Note groups that have a listener now, perhaps while being unsubscribed; `settle` subscribes."""
        self._unsettled |= names

    def left(self, name: str) -> None:
        """Note a group that has no listener any more; `settle` unsubscribes."""
        self._unsettled.add(name)

    async def settle(self) -> None:
        """Make the subscriptions on the layer those of the connections here."""
        async with self._settling:
            if not self._channel:
                return
            while self._unsettled:
                name = self._unsettled.pop()  # whoever joins or leaves from now on puts it back
                try:
                    await self._settle(name)
                except BaseException:
                    self._unsettled.add(name)
                    raise

    async def _settle(self, name: str) -> None:
        is_wanted = name in self._wanted
        if is_wanted and name not in self._subscribed:
            await self._layer.group_add(name, self._channel)
            self._subscribed.add(name)
        elif not is_wanted and name in self._subscribed:
            await self._layer.group_discard(name, self._channel)
            self._subscribed.discard(name)
