"""What must hold, and the exception for each rule that does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings

from hplus.realtime.connection.client import Client
from hplus.realtime.connection.outbound import REMEMBERED_EVENTS
from hplus.realtime.hub import user_stream
from hplus.realtime.hub.hub import Hub


class Violation(AssertionError):
    """A rule of the real-time core does not hold."""


class Gap(Violation):
    """An event came before the one that precedes it."""


class Doubled(Violation):
    """An event came twice on one connection."""


class WrongEvent(Violation):
    """Another event stands at this place of the mailbox."""


class Missing(Violation):
    """An event does not come, although everything works and time has passed."""


class NotRecovered(Violation):
    """A cursor was refused although all that follows it is kept."""


class AfterTheEnd(Violation):
    """Something was written to a connection that had ended."""


class Unbounded(Violation):
    """More is kept in memory than allowed."""


class Unforeseen(Violation):
    """Something broke that nothing in the simulation breaks."""


def check_bounds(hub: Hub) -> None:
    """Raise Unbounded where a queue, a buffer or a cache of this process is too large."""
    for what, size, most in (*_of_hub(hub), *(bound for c in hub.clients for bound in _of_client(c))):
        if size > most:
            raise Unbounded(f"{what}: {size} of at most {most}")


def check_empty(hub: Hub) -> None:
    """Raise Unbounded where a process without connections still keeps something of them."""
    kept: dict[str, Any] = {"clients": hub.clients, "streams": hub.streams, "groups": hub._groups}
    for kind, conflation in hub._conflations.items():
        kept |= {f"{kind} {name}": getattr(conflation, name) for name in _OF_CONFLATION}
    for what, things in kept.items():
        if things:
            raise Unbounded(f"{what} of nobody: {things}")


_OF_CONFLATION = ("_recent", "_paces", "_served", "_joined", "_changed", "_due")
Bound = tuple[str, int, int]


def _of_client(client: Any) -> Iterator[Bound]:
    assert isinstance(client, Client)
    outbound, frames = client.outbound, settings.OUTBOUND_FRAMES
    waiting = outbound._waiting or ()
    yield "frames that wait for a reader", len(waiting), frames + 1  # the error that ends it
    yield "bytes that wait for a reader", sum(len(f) for f, _ in waiting), settings.OUTBOUND_BYTES + 1_000
    yield "bytes counted wrongly", abs(sum(len(frame) for frame, _ in waiting) - outbound._bytes), 0
    yield "events buffered for a reply", len(client._buffered or ()), frames
    yield "events written out of order", len(outbound.written._others or ()), REMEMBERED_EVENTS
    yield "events left out", len(outbound.written._skipped or ()), REMEMBERED_EVENTS


def _of_hub(hub: Hub) -> Iterator[Bound]:
    for stream in hub.streams.values():
        yield f"events of {stream.user_id} after a gap", len(stream._early or ()), user_stream.EARLY_MOST + 1
        yield "streams without a connection", int(not stream.clients), 0
    yield "groups without a connection", sum(not members for members in hub._groups.values()), 0
    for conflation in hub._conflations.values():
        for name in ("_served", "_joined", "_due"):
            yield f"{name} of connections that ended", len(set(getattr(conflation, name)) - hub.clients), 0
