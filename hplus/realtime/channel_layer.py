"""The channel layer: Redis pub/sub as channels_redis has it, sealed, and named after this installation.

Servers do not trust Redis: whoever can write to it may keep wake-ups back, no more. A server is woken less
often for nothing than by channels_redis.
"""

from __future__ import annotations

import asyncio
from typing import Any

from channels_redis.pubsub import (
    RedisPubSubChannelLayer,
    RedisPubSubLoopLayer,
    RedisSingleShardConnection,
    _wrap_close,
)
from channels_redis.utils import decode_hosts
from django.conf import settings

from hplus.realtime.execution.db_threads import in_db_thread
from hplus.realtime.models import Installation
from hplus.realtime.sealing import Dropped, Opener, Seal, alarm

# How long one look for a message takes at most; between two Redis is asked whether it lives. With the tenth
# of a second that channels_redis takes, looking was a third of what an idle server costs.
LOOK_SECONDS = 1.0


def prefix_of(installation_id: str) -> str:
    """Return what the names of all channels of an installation begin with."""
    return f"hplus:{installation_id}:"


class _PatientPubSub:
    """A pub/sub connection whose `get_message` waits longer than it is asked to."""

    def __init__(self, pubsub: Any) -> None:
        self._pubsub = pubsub

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pubsub, name)

    async def get_message(self, ignore_subscribe_messages: bool = False, timeout: float = 0) -> Any:  # noqa: ASYNC109
        return await self._pubsub.get_message(ignore_subscribe_messages, timeout=LOOK_SECONDS)


class _Shard(RedisSingleShardConnection):
    """A connection to Redis, where each channel's name begins with that of the installation."""

    _pubsub: Any

    def __init__(self, host: Any, layer: Any) -> None:
        super().__init__(host, layer)
        self._seal = Seal(settings.SECRET_KEY)
        self._opener = Opener([settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS])
        self._prefix = ""

    async def _name(self, channel: str) -> str:
        """Return the channel's name in Redis. Raises InternalError where the database is away at first."""
        if not self._prefix:
            self._prefix = prefix_of(await in_db_thread(Installation.current))
        return self._prefix + channel

    async def publish(self, channel: str, message: bytes) -> None:
        name = await self._name(channel)
        await super().publish(name, self._seal.seal(name.encode(), message))

    async def subscribe(self, channel: str) -> None:
        await super().subscribe(await self._name(channel))

    async def unsubscribe(self, channel: str) -> None:
        await super().unsubscribe(await self._name(channel))

    def _receive_message(self, message: dict[str, Any] | None) -> None:
        """Hand on what another server of this installation has sent; anything else is dropped."""
        if message is None:
            return
        name: bytes = message["channel"]
        try:
            opened = self._opener.open(name, message["data"])
        except Dropped as dropped:
            alarm.note(str(dropped))
            return
        channel = name.decode().removeprefix(self._prefix)
        super()._receive_message({**message, "channel": channel, "data": opened})

    def _ensure_redis(self) -> None:
        super()._ensure_redis()
        if not isinstance(self._pubsub, _PatientPubSub):
            self._pubsub = _PatientPubSub(self._pubsub)


class _LoopLayer(RedisPubSubLoopLayer):
    def __init__(self, hosts: Any = None, **given: Any) -> None:
        super().__init__(hosts=hosts, **given)
        self._shards = [_Shard(host, self) for host in decode_hosts(hosts)]


class ChannelLayer(RedisPubSubChannelLayer):
    def _get_layer(self) -> _LoopLayer:
        """The layer of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._layers:
            self._layers[loop] = _LoopLayer(*self._args, **self._kwargs, channel_layer=self)
            _wrap_close(self, loop)
        layer: _LoopLayer = self._layers[loop]
        return layer
