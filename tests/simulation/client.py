"""A client as the guide describes it: it keeps its cursor, and reconnects with it. It checks what it gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson

from hplus.accounts.models import User
from tests.simulation import invariants
from tests.simulation.clock import Chance, Process
from tests.simulation.database import Database
from tests.simulation.server import SimulatedServer
from tests.simulation.transport import SimulatedTransport

Frame = dict[str, Any]


@dataclass(frozen=True)
class Cursor:
    """The last `seq` a client has, and the epoch it counts in."""

    seq: int
    epoch: str


class SimulatedClient:
    """One device of a user."""

    def __init__(self, name: str, user: User, database: Database, network: Process, chance: Chance) -> None:
        self.name, self.user, self.database = name, user, database
        self.cursor: Cursor | None = None
        self.connection: ClientConnection | None = None
        self.violations: list[invariants.Violation] = []
        self.trace: list[tuple[object, ...]] = []
        self._network, self._chance, self._connections = network, chance, 0

    def connect(self, server: SimulatedServer, *, with_cursor: bool) -> None:
        self._connections += 1
        name = f"{self.name}.{self._connections}"
        self.connection = ClientConnection(self, self.cursor if with_cursor else None)
        processes = server.process, self._network
        transport = SimulatedTransport(*processes, self._chance, name, self.connection)
        self.connection.transport = transport
        server.accept(transport, self.connection.query)

    def leave(self, code: int | None) -> None:
        """Close with this code, or vanish without one."""
        if self.connection is not None:
            self.connection.transport.leave(code)
        self.connection = None

    @property
    def progress(self) -> str:
        seq = self.connection.last_seq if self.connection is not None else "nothing"
        return f"{self.name} has {seq} of {self.database.last_seq_of(self.user.user_id)}"

    @property
    def is_complete(self) -> bool:
        """Whether it is connected and has all there is."""
        if self.connection is None or self.connection.last_seq is None:
            return False
        last_seq = self.database.last_seq_of(self.user.user_id)
        return self.connection.leads_to(last_seq + 1, self.connection.last_seq)


class ClientConnection:
    """One connection as its client sees it: what comes must continue what it has, once and without a gap."""

    transport: SimulatedTransport

    def __init__(self, client: SimulatedClient, asked: Cursor | None) -> None:
        self._client, self._asked = client, asked
        self._database, self._user_id = client.database, client.user.user_id
        self.last_seq: int | None = None  # once it is established
        self._is_beginning = True  # a connection without a cursor may begin before the place it was told
        self._replayed_up_to: int | None = None  # while a `sync` is answered
        self._ended_with = ""  # the error after which nothing may come
        self._overtaken: set[str] = set()  # by eventId, those that came without their place

    @property
    def query(self) -> str:
        user = self._client.user
        query = {"userId": user.user_id, "role": user.role, "hospitalId": user.hospital_id}
        if self._asked is not None:
            query |= {"since": self._asked.seq, "epoch": self._asked.epoch}
        return urlencode(query)

    def sync(self, back: int) -> None:
        """Ask for the last events once more."""
        if self.last_seq is None or self._client.cursor is None or self._replayed_up_to is not None:
            return
        since = max(0, self.last_seq - back)
        frame = {"type": "sync", "since": since, "epoch": self._client.cursor.epoch}
        if self.transport.say(orjson.dumps(frame)):
            self._replayed_up_to = since

    # What it gets

    def take(self, frame: bytes) -> None:
        if self._client.connection is not self:  # nobody reads any more
            return
        event = orjson.loads(frame)
        self._client.trace.append((self.transport.network.time(), event["type"], event.get("seq")))
        if self._ended_with:
            self._violates(invariants.AfterTheEnd(f"{event['type']} after {self._ended_with}"))
        if event["type"] == "connection_established":
            self._begin(event)
        elif event["type"] == "error":
            self._on_error(event["code"])
        elif event["type"] == "syncComplete":
            self._replayed_up_to = None
        elif "seq" in event:
            self._take_durable(event)
        elif "eventId" in event:
            self._take_ahead(event["eventId"])

    def _take_ahead(self, event_id: str) -> None:
        """What is urgent comes once without its place, which is passed over later."""
        if event_id in self._overtaken:
            self._violates(invariants.Doubled(f"{event_id} overtook twice"))
        self._overtaken.add(event_id)

    def on_closed(self, code: int) -> None:
        self._client.trace.append((self.transport.network.time(), "closed", code))
        if self._client.connection is self:
            self._client.connection = None

    def _begin(self, event: Frame) -> None:
        asked, last_seq = self._asked, event["lastSeq"]
        if asked is not None and not event["recovered"] and self._is_recoverable(asked, event):
            self._violates(invariants.NotRecovered(f"{asked} of {event}"))
        self._is_beginning = not event["recovered"]
        self.last_seq = asked.seq if asked is not None and event["recovered"] else last_seq
        self._client.cursor = Cursor(self.last_seq, event["epoch"])

    def _is_recoverable(self, asked: Cursor, event: Frame) -> bool:
        is_current = asked.epoch == event["epoch"] and asked.seq <= event["lastSeq"]
        has_next = bool(self._database.between(self._user_id, asked.seq, asked.seq + 1))
        return is_current and (has_next or asked.seq == event["lastSeq"])

    def _on_error(self, code: str) -> None:
        if code not in ("SLOW_CONSUMER", "INTERNAL_ERROR"):
            self._violates(invariants.Unforeseen(f"error {code}"))
        if code == "SLOW_CONSUMER":
            self._ended_with = code
        self._replayed_up_to = None  # no other request of this client could be refused

    def _take_durable(self, event: Frame) -> None:
        seq = event["seq"]
        entry = self._database.rows.entries.get(self._user_id, {}).get(seq)
        if entry is not None and entry.event_id != event["eventId"]:
            self._violates(invariants.WrongEvent(f"another one at {seq}: {event}"))
        if self.last_seq is None:
            self._violates(invariants.Gap(f"{seq} before the connection is established"))
            return
        if (
            self._replayed_up_to is not None
            and seq <= self.last_seq
            and self.leads_to(seq, self._replayed_up_to)
        ):
            self._replayed_up_to = seq
            return
        if seq <= self.last_seq and not self._is_beginning:
            self._violates(invariants.Doubled(f"{seq} after {self.last_seq}"))
        elif seq > self.last_seq and not self.leads_to(seq, self.last_seq):
            self._violates(invariants.Gap(f"{seq} after {self.last_seq}"))
        self.last_seq, self._is_beginning = seq, False
        assert self._client.cursor is not None
        self._client.cursor = Cursor(max(seq, self._client.cursor.seq), self._client.cursor.epoch)

    def leads_to(self, seq: int, last_seq: int) -> bool:
        """Whether this `seq` comes next after the last one; what cannot be rebuilt is left out."""
        between = range(last_seq + 1, seq)
        return seq > last_seq and not any(self._must_come(gap) for gap in between)

    def _must_come(self, seq: int) -> bool:
        """Whether the event at this place can be read, and has not come before its turn."""
        entry = self._database.rows.entries.get(self._user_id, {}).get(seq)
        has_come = entry is not None and entry.event_id in self._overtaken
        return not has_come and self._database.is_kept(self._user_id, seq)

    def _violates(self, violation: invariants.Violation) -> None:
        self._client.violations.append(violation)
