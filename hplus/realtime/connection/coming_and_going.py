"""Coming and going: what the database and the domains do for all who connect, settle or leave at once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from hplus.realtime.actions import Result
from hplus.realtime.connection.client import Client
from hplus.realtime.connection.handlers import Consumer
from hplus.realtime.execution import prepared
from hplus.realtime.hub import arrivals, departures
from hplus.realtime.hub.arrivals import Registered
from hplus.realtime.hub.departures import Departure
from hplus.realtime.models import Connection
from hplus.realtime.publishing.replay import Cursor, Missed, Replay, replay_each

logger = logging.getLogger(__name__)
ConsumerClass = type[Consumer]
Probe = Literal["arrival_probe", "settled_probe"]
Concerned = dict[tuple[ConsumerClass, Probe], set[str]]  # the users for whom a probe found something


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
    settling: list[Consumer] = field(default_factory=list)  # those to ask once the connection has settled

    @property
    def is_recovered(self) -> bool:
        return self.replay is not None and self.replay.recovered

    @property
    def since(self) -> int:
        """The place up to which the client has everything; 0 where it is not recovered."""
        return self.replay.since if self.replay is not None else 0


@dataclass(frozen=True, slots=True)
class _Member:
    """One domain on one connection that arrives."""

    newcomer: Newcomer
    arrival: Arrival
    consumer: Any


def arrive_all(newcomers: list[Newcomer]) -> list[Arrival | Exception]:
    """Register these clients and read what each gets first, or return why it was refused."""
    refused = _register([newcomer for newcomer in newcomers if newcomer.registered is None])
    arrived = {n: Arrival(n.registered) for n in newcomers if n.registered is not None}
    by_class = _by_class(arrived)
    found = _probe([newcomer.client for newcomer in arrived], by_class)
    for consumer_class, members in by_class.items():
        _greet(consumer_class, _concerned(members, found.get((consumer_class, "arrival_probe"))))
    _replay(arrived)
    for consumer_class, members in by_class.items():
        if consumer_class.overrides("on_settled_all"):
            _settle(consumer_class, _concerned(members, found.get((consumer_class, "settled_probe"))))
    return [refused.get(newcomer) or arrived[newcomer] for newcomer in newcomers]


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


def _by_class(arrived: dict[Newcomer, Arrival]) -> dict[ConsumerClass, list[_Member]]:
    by_class: dict[ConsumerClass, list[_Member]] = {}
    for newcomer, arrival in arrived.items():
        for consumer in newcomer.client.consumers:
            by_class.setdefault(type(consumer), []).append(_Member(newcomer, arrival, consumer))
    return by_class


def _concerned(members: list[_Member], user_ids: set[str] | None) -> list[_Member]:
    """Those of these users; all where no probe was asked."""
    if user_ids is None:
        return members
    return [member for member in members if member.newcomer.client.user_id in user_ids]


def _greet(consumer_class: ConsumerClass, members: list[_Member]) -> None:
    consumers = [member.consumer for member in members]
    if not consumers:
        return
    for member, snapshot in zip(members, consumer_class.snapshot_all(consumers), strict=True):
        member.arrival.snapshot |= snapshot
    for member, result in zip(members, consumer_class.on_connect_all(consumers), strict=True):
        if result is not None:
            member.arrival.results.append(result)


def _replay(arrived: dict[Newcomer, Arrival]) -> None:
    """Read what came after the cursors of those who have one."""
    missed = {
        newcomer: Missed(newcomer.client.user, newcomer.cursor, at.epoch, at.last_seq)
        for newcomer, arrival in arrived.items()
        if (at := arrival.registered) and newcomer.cursor is not None
    }
    for newcomer, replay in zip(missed, replay_each(list(missed.values())), strict=True):
        arrived[newcomer].replay = replay


def _settle(consumer_class: ConsumerClass, members: list[_Member]) -> None:
    """Acknowledge what lies before a valid cursor, and note who is asked again later."""
    acks = []
    for member in members:
        member.arrival.settling.append(member.consumer)
        if member.arrival.is_recovered and member.newcomer.cursor is not None:
            acks.append((member.consumer, member.newcomer.cursor.since))
    if acks:
        consumer_class.on_ack_all(acks)


# Probes: who need not be asked


def _probe(clients: Sequence[Client], classes: Iterable[ConsumerClass]) -> Concerned:
    """Ask for all probes in one statement whom they concern; without a probe nothing is found or excluded."""
    kinds: tuple[Probe, ...] = ("arrival_probe", "settled_probe")
    probes = {(cls, kind): sql for cls in classes for kind in kinds if (sql := getattr(cls, kind))}
    if not probes or not clients or not prepared.is_available():
        return {}
    users = {client.user_id: client.user for client in clients}.values()
    rows = prepared.statements.fetch(
        _statement(tuple(probes.values())),
        [user.pk for user in users],
        [user.role for user in users],
        [user.hospital_id for user in users],
        [user.is_superuser for user in users],
    )
    found: Concerned = {key: set() for key in probes}
    in_order = list(probes)
    for place, user_id in rows:
        found[in_order[place]].add(user_id)
    return found


@cache
def _statement(probes: tuple[str, ...]) -> str:
    selects = [f"SELECT {place}, user_id FROM ({sql}) probe_{place}" for place, sql in enumerate(probes)]
    return f"""
    WITH newcomer AS MATERIALIZED (
      SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bool[])
        AS newcomer(user_id, role, hospital_id, is_superuser)
    )
    {" UNION ALL ".join(selects)}"""


# Settling


def settle_all(consumers: list[Consumer]) -> list[Result | None]:
    """Ask each of these what its connection gets now."""
    results: dict[int, Result | None] = {}
    for consumer_class in {type(consumer) for consumer in consumers}:
        alike = [consumer for consumer in consumers if type(consumer) is consumer_class]
        results |= dict(zip(map(id, alike), consumer_class.on_settled_all(alike), strict=True))
    return [results[id(consumer)] for consumer in consumers]


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
