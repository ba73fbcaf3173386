"""The channel layer, in memory: its messages may be lost, late, doubled and reordered, or all of it away."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import msgpack

from tests.simulation.clock import Chance, Process

Message = dict[str, Any]


class LayerIsAway(ConnectionError):
    """What a client of the layer gets while its server does not run."""


@dataclass
class Weather:
    """How probably a message is lost or comes twice, and how late it may be; never quite good."""

    loss: float = 0.1
    doubling: float = 0.1
    seconds: float = 0.05


@dataclass
class Channel:
    """What a server process listens with."""

    process: Process
    waiting: deque[Message] = field(default_factory=deque)
    receiver: asyncio.Future[Message] | None = None

    def take(self, message: Message) -> None:
        self.waiting.append(message)
        self.hand_on()

    def hand_on(self) -> None:
        if self.waiting and self.receiver is not None and not self.receiver.done():
            self.receiver.set_result(self.waiting.popleft())

    def break_off(self) -> None:
        if self.receiver is not None and not self.receiver.done():
            self.receiver.set_exception(LayerIsAway())


class Layer:
    """What the product uses of a channel layer; one for all server processes."""

    def __init__(self, chance: Chance) -> None:
        self.weather, self.is_away = Weather(), False
        self._chance = chance
        self._channels: dict[str, Channel] = {}
        self._groups: defaultdict[str, set[str]] = defaultdict(set)

    @contextmanager
    def installed(self) -> Iterator[None]:
        realtime = "hplus.realtime"
        with (
            mock.patch(f"{realtime}.hub.subscriptions.get_channel_layer", return_value=self),
            mock.patch(f"{realtime}.publishing.publisher.get_channel_layer", return_value=self),
        ):
            yield

    def go_away(self) -> None:
        """As when the layer's server is killed: it remembers nothing, and who waits gets an error."""
        self.is_away = True
        for channel in self._channels.values():
            channel.process.call_soon(channel.break_off)
        self._channels.clear()
        self._groups.clear()

    async def new_channel(self) -> str:
        process = await self._answer("new_channel")
        name = f"{process.name}.{len(self._channels)}.{process.time()}"
        self._channels[name] = Channel(process)
        return name

    async def group_add(self, group: str, channel: str) -> None:
        await self._answer("group_add", group)
        self._groups[group].add(channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self._answer("group_discard", group)
        self._groups[group].discard(channel)

    async def group_send(self, group: str, message: Message) -> None:
        await self._answer("group_send", group)
        packed = msgpack.packb(message)
        for name in sorted(self._groups[group]):
            if channel := self._channels.get(name):
                self._send(channel, packed)

    def _send(self, channel: Channel, packed: bytes) -> None:
        name = channel.process.name
        if self._chance.happens(self.weather.loss, "lost", name):
            return
        for _ in range(1 + self._chance.happens(self.weather.doubling, "doubled", name)):
            delay = self._chance.seconds(self.weather.seconds, "late", name)
            channel.process.call_later(delay, lambda: channel.take(msgpack.unpackb(packed)))

    async def receive(self, name: str) -> Message:
        channel = self._channels.get(name)
        if channel is None:
            raise LayerIsAway
        channel.receiver = asyncio.get_running_loop().create_future()
        channel.hand_on()
        return await channel.receiver

    async def _answer(self, *asked: str) -> Process:
        """Take a moment. Raises LayerIsAway, or returns the process that asks."""
        process: Any = asyncio.get_running_loop()
        await asyncio.sleep(self._chance.seconds(self.weather.seconds, process.name, *asked))
        if self.is_away:
            raise LayerIsAway
        return process
