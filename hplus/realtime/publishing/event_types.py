"""What the classes of events declare, looked up by their `type`."""

from __future__ import annotations

from functools import cache

from hplus.protocol import wire


@cache
def internal() -> frozenset[str]:
    """Return types between our own servers; a connection whose consumers do not take one drops it."""
    return frozenset(event.type for event in wire.subclasses(wire.Event) if event.internal)


@cache
def conflated() -> dict[str, str]:
    """Return types that are rate-limited instead of delivered one by one: `type` → "latest" or "live"."""
    return {event.type: event.delivery for event in wire.subclasses(wire.Event) if event.delivery}


@cache
def overtaking() -> frozenset[str]:
    """Return types that are written before what waits for a slow reader."""
    return frozenset(event.type for event in wire.subclasses(wire.Event) if event.overtakes)


@cache
def revoking() -> frozenset[str]:
    """Return types after which nothing conflated of the same author and topic is delivered any more."""
    return frozenset(event.type for event in wire.subclasses(wire.Event) if event.revokes)
