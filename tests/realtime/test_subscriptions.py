"""A server listens to what its sockets listen to, whenever they come and go."""

from __future__ import annotations

import asyncio

import pytest
from channels.layers import InMemoryChannelLayer

from hplus.realtime.hub.subscriptions import Subscriptions


class SlowLayer(InMemoryChannelLayer):
    """Answers when it is let, or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()
        self.is_asked = asyncio.Event()
        self.is_away = False

    async def group_add(self, group: str, channel: str) -> None:
        await self._take_time()
        await super().group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self._take_time()
        await super().group_discard(group, channel)

    async def _take_time(self) -> None:
        if self.is_away:
            raise ConnectionError
        self.is_asked.set()
        await self.answers.wait()


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> SlowLayer:
    slow = SlowLayer()
    monkeypatch.setattr("hplus.realtime.hub.subscriptions.get_channel_layer", lambda: slow)
    return slow


async def test_join_during_unsubscribe_of_the_last_listener_gets_events(layer: SlowLayer) -> None:
    heard: dict[str, object] = {"staff": 1}
    subscriptions = Subscriptions(heard)
    await subscriptions.begin()
    assert layer.groups.keys() == {"persons", "staff"}

    layer.answers.clear()
    layer.is_asked.clear()
    del heard["staff"]
    subscriptions.left("staff")
    leaving = asyncio.create_task(subscriptions.settle())
    await layer.is_asked.wait()
    heard["staff"] = 1
    subscriptions.joined({"staff"})
    layer.answers.set()
    await leaving
    assert layer.groups.keys() == {"persons", "staff"}


async def test_subscription_is_retried_after_a_layer_failure(layer: SlowLayer) -> None:
    heard: dict[str, object] = {}
    subscriptions = Subscriptions(heard)
    await subscriptions.begin()
    heard["staff"] = 1
    subscriptions.joined({"staff"})
    layer.is_away = True
    with pytest.raises(ConnectionError):
        await subscriptions.settle()
    layer.is_away = False
    await subscriptions.settle()
    assert layer.groups.keys() == {"persons", "staff"}
