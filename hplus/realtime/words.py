"""What the classes of events say of themselves, by their `type`."""

from __future__ import annotations

from functools import cache

from hplus import wire


@cache
def internal() -> frozenset[str]:
    """What our servers tell each other; a socket whose domain does not take it drops it."""
    return frozenset(event.type for event in wire.subclasses(wire.Event) if event.internal)


@cache
def fleeting() -> dict[str, str]:
    """What matters only while it is new: `type` → how it is shown."""
    return {event.type: event.fleeting for event in wire.subclasses(wire.Event) if event.fleeting}


@cache
def withdrawing() -> frozenset[str]:
    """After these nothing fleeting of the same author and topic is shown any more."""
    return frozenset(event.type for event in wire.subclasses(wire.Event) if event.withdraws)
