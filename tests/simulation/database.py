"""The database, in memory: what its statements do and return, each as a whole and at one instant.

`installed` puts it in the place of the statements; everything that is done with their rows is the product's.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self
from unittest import mock

import orjson
from django.db import OperationalError
from django.utils import timezone

from chat.messages import MessageDelivered as Alarm  # small; only here does it overtake
from hplus.accounts.actions import Claim, Identity
from hplus.accounts.models import User
from hplus.notifications.messages import Notified
from hplus.protocol.wire import Durable
from hplus.realtime.execution import prepared
from hplus.realtime.hub import arrivals, departures
from hplus.realtime.hub.presence import DEAD_AFTER_SECONDS
from hplus.realtime.hub.reconciliation import Findings
from hplus.realtime.models import Connection, MailboxEntry
from hplus.realtime.publishing import replay
from hplus.realtime.publishing.mailbox import page_between
from tests.simulation.clock import Chance, Clock, Process

EARLY_MOST = 30  # events after a gap that are kept
FETCHED_AT_ONCE = 20  # entries that repair a gap, so that a simulation sees what comes after the first
REPLAYED_TOGETHER = 10  # a longer replay is read alone


@dataclass
class Contents:
    """What is stored, and lost or restored as a whole."""

    epoch: str = field(default_factory=lambda: uuid.uuid4().hex)
    last_seqs: dict[str, int] = field(default_factory=dict)
    entries: dict[str, dict[int, MailboxEntry]] = field(default_factory=dict)
    notices: dict[str, Durable] = field(default_factory=dict)  # the rows that events are rebuilt from
    online: set[str] = field(default_factory=set)
    connections: dict[str, Connection] = field(default_factory=dict)
    servers: dict[uuid.UUID, float] = field(default_factory=dict)  # when each was last seen

    def copy(self) -> Self:
        """Return the mailboxes as they are now, for a transaction or a backup."""
        entries = {user_id: dict(kept) for user_id, kept in self.entries.items()}
        return replace(self, last_seqs=dict(self.last_seqs), entries=entries, notices=dict(self.notices))


class Rows(list[MailboxEntry]):
    """What a QuerySet is evaluated to."""

    def exists(self) -> bool:
        return bool(self)


class Database:
    """Statements of the real-time core, on rows in memory; `process` is the one that asks at the moment."""

    def __init__(self, clock: Clock, chance: Chance, users: Sequence[User]) -> None:
        self.users = {user.user_id: user for user in users}
        self.process: Process  # set by each process when it runs
        self.failures = 0.0  # how probable it is that a connection breaks with a statement
        self.seconds = 0.02  # that a thread waits for a statement, at most
        self.rows = Contents()
        self._clock, self._chance = clock, chance
        self._on_commit: list[Callable[[], None]] = []

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Answer the statements of the product."""
        realtime = "hplus.realtime"
        replaced: dict[str, Any] = {
            f"{realtime}.actions.transaction": self,
            f"{realtime}.publishing.outgoing.transaction": self,
            f"{realtime}.publishing.outgoing.bulk_insert.insert": self.insert,
            f"{realtime}.models.MailboxQuerySet.draw": lambda _, counts: self.draw(counts),
            f"{realtime}.models.MailboxEntryQuerySet.between": lambda _, *bounds: self.between(*bounds),
            f"{realtime}.models.Epoch.current": lambda: self.rows.epoch,
            f"{realtime}.execution.prepared.is_available": lambda: True,
            f"{realtime}.execution.prepared.statements": self,
            f"{realtime}.hub.reconciliation.Reconciliation.reconcile": self._reconcile_for,
            f"{realtime}.hub.presence.come_back": self.come_back,
            f"{realtime}.hub.user_stream.page_between": partial(page_between, most=FETCHED_AT_ONCE),
            f"{realtime}.hub.user_stream.EARLY_MOST": EARLY_MOST,
            f"{realtime}.publishing.event_types.overtaking": lambda: frozenset({Alarm.type}),
            f"{realtime}.publishing.replay.TOGETHER_MOST": REPLAYED_TOGETHER,
            f"{realtime}.models.MailboxQuerySet.last_seq_of": lambda _, user_id: self.last_seq_of(user_id),
            "hplus.accounts.actions.identify_all": self.identify_all,
        }
        with ExitStack() as stack:
            for name, statement in replaced.items():
                stack.enter_context(mock.patch(name, statement))
            for event_class in (Notified, Alarm):
                stack.enter_context(mock.patch.object(event_class, "rebuild", self.rebuild))
            yield

    # Transactions

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """All of it or nothing. Where the connection breaks, the process does not know which of the two."""
        before, self._on_commit = self.rows.copy(), []
        try:
            yield
            self._may_fail("before")
        except BaseException:
            self.rows = before
            raise
        self._may_fail("after")
        for callback in self._on_commit:
            self.process.call_later(self._chance.seconds(self.seconds, "commit"), callback)

    def on_commit(self, callback: Callable[[], None]) -> None:
        self._on_commit.append(callback)

    def _may_fail(self, when: str) -> None:
        if self._chance.happens(self.failures, "database", when):
            raise OperationalError("the connection broke")

    # Mailboxes

    def draw(self, counts: Mapping[str, int]) -> dict[str, int]:
        """The whole transaction is one instant, as if the mailboxes were locked until its commit."""
        for user_id, count in counts.items():
            self.rows.last_seqs[user_id] = self.last_seq_of(user_id) + count
        return {user_id: self.rows.last_seqs[user_id] for user_id in counts}

    def insert(self, model: type[MailboxEntry], rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            entry = self.rows.entries.setdefault(row["user_id"], {})[row["seq"]] = model(**row)
            entry.committed_at = self._clock.now

    def last_seq_of(self, user_id: str) -> int:
        return self.rows.last_seqs.get(user_id, 0)

    def between(self, user_id: str, after: int, up_to: int) -> Rows:
        self._may_fail("before")
        kept = self.rows.entries.get(user_id, {})
        return Rows(
            kept[seq] for seq in range(after + 1, min(up_to, self.last_seq_of(user_id)) + 1) if seq in kept
        )

    def rebuild(self, subjects: set[str]) -> dict[str, Durable]:
        return {subject: notice for subject in subjects if (notice := self.rows.notices.get(subject))}

    def is_kept(self, user_id: str, seq: int) -> bool:
        """Whether the event at this place can still be read."""
        entry = self.rows.entries.get(user_id, {}).get(seq)
        return entry is not None and entry.subject in self.rows.notices

    def forget_notice(self, user_id: str, seq: int) -> None:
        """Delete the row that an entry is about."""
        self.rows.notices.pop(self.rows.entries[user_id][seq].subject, None)

    def expire(self, older_than_seconds: float) -> None:
        """Delete the entries that are past keeping."""
        since = self._clock.now - older_than_seconds
        for user_id, kept in self.rows.entries.items():
            recent = {seq: entry for seq, entry in kept.items() if entry.committed_at >= since}
            self.rows.entries[user_id] = recent

    def restore(self, backup: Contents) -> None:
        """What was committed after the backup is lost; nobody is connected, and the epoch is another."""
        self.rows = replace(backup.copy(), epoch=uuid.uuid4().hex, connections={}, servers={}, online=set())

    # Prepared statements

    def fetch(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        [rows] = self.fetch_each((sql, values))
        return rows

    def fetch_each(self, *statements: prepared.Statement) -> list[list[tuple[Any, ...]]]:
        self._may_fail("before")
        answers = {
            replay.ENTRIES_AFTER: self._entries_after,
            arrivals.LOCK: lambda _: [],
            arrivals.REGISTER: self._register,
            departures.REMOVE: self._remove,
            departures.MARK_GONE: self._mark_gone,
        }
        rows = [answers[sql](*values) for sql, values in statements]
        self._may_fail("after")
        return rows

    def _entries_after(
        self, user_ids: Sequence[str], sinces: Sequence[int], last_seqs: Sequence[int]
    ) -> list[tuple[Any, ...]]:
        return [
            (place, entry.user_id, entry.seq, entry.event_type, entry.subject, entry.event_id)
            for place, cursor in enumerate(zip(user_ids, sinces, last_seqs, strict=True), 1)
            for entry in self.between(*cursor)
        ]

    def _register(self, document: str, _most: int, _now: object) -> list[tuple[Any, ...]]:
        found = []
        for row in orjson.loads(document):
            number, user_id = row.pop("n"), row["user_id"]
            self.rows.connections.setdefault(row["connection_id"], Connection(**self._columns(row)))
            is_news = user_id not in self.rows.online
            self.rows.online.add(user_id)
            found.append((number, self.rows.epoch, self.last_seq_of(user_id), is_news, []))
        return found

    def _columns(self, row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "server_id": uuid.UUID(row["server_id"])}

    def _remove(self, connection_ids: Sequence[str], _user_ids: object) -> list[tuple[Any, ...]]:
        for connection_id in connection_ids:
            self.rows.connections.pop(connection_id, None)
        return []

    def _mark_gone(self, document: str, *_times: object) -> list[tuple[Any, ...]]:
        """Return those who are offline from now on, as a row's number, no likely push and no contacts."""
        found = []
        for row in orjson.loads(document):
            has_other = any(c.user_id == row["user_id"] for c in self.rows.connections.values())
            if not has_other and row["is_clean"] and row["user_id"] in self.rows.online:
                self.rows.online.discard(row["user_id"])
                found.append((row["n"], False, []))
        return found

    # Servers

    def register_server(self, server_id: uuid.UUID) -> None:
        self.rows.servers[server_id] = self._clock.now

    def retire_server(self, server_id: uuid.UUID) -> None:
        self.rows.servers.pop(server_id, None)
        lost = {c.pk for c in self.rows.connections.values() if c.server_id == server_id}
        self._remove(list(lost), ())

    @property
    def _reconcile_for(self) -> Callable[..., Findings]:
        return lambda look, connections, _keys: self.reconcile(look._server, connections)

    def reconcile(self, server: Any, connections: Sequence[Connection]) -> Findings:
        """Find what `Reconciliation.reconcile` does, and expire the servers not seen for long with it."""
        self._may_fail("before")
        was_taken_for_dead = server.is_registered and server.server_id not in self.rows.servers
        server.register()
        self.register_server(server.server_id)
        if was_taken_for_dead:
            self.rows.connections.update({connection.pk: connection for connection in connections})
        for server_id, seen_at in tuple(self.rows.servers.items()):
            if self._clock.now - seen_at > DEAD_AFTER_SECONDS:
                self.retire_server(server_id)
        mine = {c.user_id for c in self.rows.connections.values() if c.server_id == server.server_id}
        last_seqs = [(user_id, self.last_seq_of(user_id)) for user_id in sorted(mine)]
        has_neighbours = len(self.rows.servers) > 1
        return Findings(was_taken_for_dead, has_neighbours, last_seqs, {}, {}, timezone.now())

    def come_back(self, connections: Sequence[Connection]) -> None:
        self.rows.online |= {connection.user_id for connection in connections}

    # Accounts

    def identify_all(self, claims: Sequence[Claim], _fetch: object) -> list[Identity]:
        self._may_fail("before")
        return [Identity(self.users[claim.user_id]) for claim in claims]


class Registration:
    """A server's row, as `ServerRegistration` keeps it."""

    def __init__(self, database: Database) -> None:
        self.server_id, self.is_registered, self._database = uuid.uuid4(), False, database

    def register(self) -> None:
        if not self.is_registered:
            self._database.register_server(self.server_id)
            self.is_registered = True

    def retire(self) -> None:
        self._database.retire_server(self.server_id)
