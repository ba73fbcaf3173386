"""Faults that the simulation must find: each takes one guarantee out of the product."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from hplus.realtime.connection.outbound import Outbound
from hplus.realtime.hub.hub import Hub
from hplus.realtime.hub.user_stream import UserStream
from hplus.realtime.publishing import event_types
from hplus.realtime.publishing.envelopes import Envelope
from tests.simulation import invariants

Fault = tuple[Callable[[], AbstractContextManager[Any]], type[invariants.Violation]]


def _receive_with_gaps(stream: UserStream, seq: int, envelope: Envelope | None) -> None:
    """Whatever is newer is delivered at once."""
    if stream.last_seq is not None and seq > stream.last_seq:
        stream.last_seq = seq
        stream._deliver(envelope, seq)


_receive = UserStream.receive


def _receive_twice(stream: UserStream, seq: int, envelope: Envelope | None) -> None:
    """An event whose wake-up comes again is delivered again."""
    if stream.last_seq is not None and seq <= stream.last_seq:
        stream._deliver(envelope, seq)
    else:
        _receive(stream, seq, envelope)


_put_live = Outbound.put_live


def _overtake_with_place(outbound: Outbound, envelope: Envelope, seq: int) -> None:
    """What overtakes takes the cursor along, past what it has overtaken."""
    if outbound._waiting and envelope.event_type in event_types.overtaking():
        outbound.put_ahead(envelope.stamped(seq), envelope)
    else:
        _put_live(outbound, envelope, seq)


async def _never_reconcile(_hub: Hub) -> None:
    await asyncio.get_running_loop().create_future()


PLANTED: dict[str, Fault] = {
    "a gap is skipped": (
        lambda: mock.patch.object(UserStream, "receive", _receive_with_gaps),
        invariants.Gap,
    ),
    "an event is doubled": (
        lambda: mock.patch.object(UserStream, "receive", _receive_twice),
        invariants.Doubled,
    ),
    "an event overtakes with its place": (
        lambda: mock.patch.object(Outbound, "put_live", _overtake_with_place),
        invariants.Gap,
    ),
    "a lost wake-up is never repaired": (
        lambda: mock.patch.object(Hub, "_reconcile_forever", _never_reconcile),
        invariants.Missing,
    ),
    "an outbound queue has no bound": (
        lambda: mock.patch.object(Outbound, "_is_full", return_value=False),
        invariants.Unbounded,
    ),
}
