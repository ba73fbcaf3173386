"""The channel layer: Redis pub/sub as channels_redis has it, which wakes a server less often for nothing."""

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

# How long one look for a message takes at most; between two Redis is asked whether it lives. With the tenth
# of a second that channels_redis takes, looking was a third of what an idle server costs.
LOOK_SECONDS = 1.0


class _PatientPubSub:
    """A pub/sub connection whose `get_message` waits longer than it is asked to."""

    def __init__(self, pubsub: Any) -> None:
        self._pubsub = pubsub

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pubsub, name)

    async def get_message(self, ignore_subscribe_messages: bool = False, timeout: float = 0) -> Any:  # noqa: ASYNC109
        return await self._pubsub.get_message(ignore_subscribe_messages, timeout=LOOK_SECONDS)


class _Shard(RedisSingleShardConnection):
    _pubsub: Any

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
