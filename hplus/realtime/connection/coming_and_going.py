"""Coming and going: what the database and the domains do for all who connect or leave at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hplus.realtime.actions import Result
from hplus.realtime.connection.client import Client, Consumer
from hplus.realtime.hub import arrivals, departures
from hplus.realtime.hub.arrivals import Registered
from hplus.realtime.hub.departures import Departure
from hplus.realtime.models import Connection
from hplus.realtime.publishing.replay import Replay, replay_all

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a client has read: the last `seq` it has, and the epoch that counts in."""

    since: int
    epoch: str | None


@dataclass(slots=True, eq=False)
class Newcomer:
    """A client that connects, with its row to be."""

    client: Client
    connection: Connection
    cursor: Cursor | None
    registered: Registered | None = None


@dataclass(slots=True, eq=False)
class Arrival:
    """What a client gets that has just been registered."""

    registered: Registered
    snapshot: dict[str, Any] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    replay: Replay | None = None


def arrive_all(newcomers: list[Newcomer]) -> list[Arrival | Exception]:
    """Register these clients and read what each gets first, or return why it was refused."""
    refused = _register([newcomer for newcomer in newcomers if newcomer.registered is None])
    return [refused.get(newcomer) or _arrival_of(newcomer) for newcomer in newcomers]


def _register(newcomers: list[Newcomer]) -> dict[Newcomer, Exception]:
    """Give the newcomers their rows. Returns those who were refused, with the reason."""
    if not newcomers:
        return {}
    for server in {newcomer.client.hub.server for newcomer in newcomers}:
        server.register()
    refused: dict[Newcomer, Exception] = {}
    outcomes = arrivals.register_all([newcomer.connection for newcomer in newcomers])
    for newcomer, outcome in zip(newcomers, outcomes, strict=True):
        if isinstance(outcome, Registered):
            # From now on its departure is recorded, whatever happens before it is greeted.
            newcomer.registered, newcomer.client.connection = outcome, newcomer.connection
        else:
            refused[newcomer] = outcome
    return refused


def _arrival_of(newcomer: Newcomer) -> Arrival:
    assert newcomer.registered is not None
    consumers = newcomer.client.consumers
    return Arrival(
        newcomer.registered,
        {key: value for consumer in consumers for key, value in consumer.snapshot().items()},
        [result for consumer in consumers if (result := consumer.on_connect())],
        _replay_of(newcomer, newcomer.registered.last_seq),
    )


def _replay_of(newcomer: Newcomer, last_seq: int) -> Replay | None:
    """Read what came after the cursor; what lies before has been delivered."""
    if newcomer.cursor is None:
        return None
    replay = replay_all(newcomer.client.user, newcomer.cursor.since, newcomer.cursor.epoch, last_seq)
    if replay.recovered:
        for consumer in newcomer.client.consumers:
            consumer.on_ack(newcomer.cursor.since)
    return replay


# Going


@dataclass(frozen=True, slots=True)
class Leaver:
    """A client that has gone, with its row."""

    consumers: Sequence[Consumer]
    departure: Departure


def leave_all(leavers: list[Leaver]) -> list[None]:
    """Tell the domains, and remove the connections."""
    for leaver in leavers:
        for consumer in leaver.consumers:
            _tell(consumer)
    departures.remove_all([leaver.departure for leaver in leavers])
    return [None] * len(leavers)


def _tell(consumer: Consumer) -> None:
    """A domain that fails must not keep the departure from being recorded."""
    try:
        consumer.on_disconnect()
    except Exception:
        logger.exception("%s failed at a departure", type(consumer).__name__)
