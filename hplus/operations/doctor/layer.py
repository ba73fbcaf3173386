"""Checks of the channel layer: whether servers reach each other."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from typing import Any

import redis
from channels.layers import get_channel_layer
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from hplus.operations.doctor.findings import Finding, cause, ok, warning, wrong
from hplus.realtime.channel_layer import prefix_of
from hplus.realtime.models import Installation

ROUND_TRIP_SECONDS = 3.0


def examine_layer() -> Iterator[Finding]:
    if settings.REDIS_URL:
        try:
            yield from about_redis()
        except redis.RedisError as failure:
            yield wrong(
                "redis", f"Not reachable. Look at REDIS_URL and at the server itself. {cause(failure)}"
            )
            return
    elif not settings.DEBUG:
        yield warning(
            "redis", "Without REDIS_URL only one process can serve, and a worker reaches no connection."
        )
    if settings.REDIS_URL:
        try:
            yield about_others()
        except Exception as failure:
            yield warning("layer", f"Not examined: its name is in the database. {cause(failure)}")
            return
    try:
        seconds = asyncio.run(round_trip())
    except Exception as failure:
        yield wrong(
            "layer", f"No round trip within {ROUND_TRIP_SECONDS:g} s. Restart Redis. {cause(failure)}"
        )
    else:
        yield ok("layer", f"A message to a group arrives in {1000 * seconds:.0f} ms.")


def about_redis() -> Iterator[Finding]:
    with connected() as client:
        info: dict[str, Any] = client.info()
    yield ok("redis", f"Redis {info.get('redis_version', 'of unknown version')} answers.")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        yield ok("redis.eviction", "Nothing is evicted.")
    else:
        message = f"This Redis is set up as a cache ({policy}). Give HPlus one of its own with noeviction."
        yield warning("redis.eviction", message)


def connected() -> redis.Redis:
    limits: dict[str, Any] = {
        "socket_timeout": 2,
        "socket_connect_timeout": 2,
        "retry": Retry(NoBackoff(), 0),
    }
    return redis.Redis.from_url(settings.REDIS_URL, **limits)


def about_others() -> Finding:
    """Whether servers of another installation listen on this Redis, whatever database they name.

    Raises django.db.Error where the own name can't be read.
    """
    ours = Installation.current()
    with connected() as client:
        names = [name.decode() for name in client.pubsub_channels(f"{prefix_of('*')}*")]
    others = sorted({name.split(":")[1] for name in names} - {ours})
    if not others:
        return ok("redis.installations", f"No other installation is on this Redis; this one is {ours}.")
    message = f"Other installations ({', '.join(others)}) are on this Redis. Give each one of its own."
    return warning("redis.installations", message)


async def round_trip() -> float:
    """Return the seconds from sending to a group until a channel in it receives."""
    layer: Any = get_channel_layer()
    group = f"doctor.{uuid.uuid4().hex}"
    async with asyncio.timeout(ROUND_TRIP_SECONDS):
        channel = await layer.new_channel()
        await layer.group_add(group, channel)
        for _ in range(2):  # the first one also waits until the listener has started
            started = time.monotonic()
            await layer.group_send(group, {"type": "doctor"})
            await layer.receive(channel)
        await layer.group_discard(group, channel)
    return time.monotonic() - started
