"""Everything that is simulated, and what may happen to it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager

from django.db import OperationalError
from django.test import override_settings
from django.utils import timezone

from hplus import errors
from hplus.accounts.models import User
from hplus.notifications.messages import Notified
from hplus.protocol.wire import Durable
from hplus.realtime import groups
from hplus.realtime.groups import Group
from hplus.realtime.publishing import publisher
from tests.simulation import invariants
from tests.simulation.client import SimulatedClient
from tests.simulation.clock import Chance, Clock, Process
from tests.simulation.database import Alarm, Contents, Database
from tests.simulation.layer import Layer, LayerIsAway, Weather
from tests.simulation.server import SimulatedServer

HOSPITAL = "hospital_001"
USERS, CLIENTS_OF_EACH, SERVERS = 3, 2, 3
SETTLED_SECONDS = 60  # by then a client that vanished is noticed, and everybody has everything
BOUNDS = {
    "OUTBOUND_FRAMES": 60,
    "OUTBOUND_BYTES": 12_000,
    "PAGE_EVENTS": 12,
    "PAGE_BYTES": 2_000,
    "HPLUS_MESSAGES_PER_MINUTE": 0,
    "HPLUS_MAX_SOCKETS_PER_USER": 0,
    "HPLUS_PREPARED_STATEMENTS": False,  # no hot connections: they would need sockets
}
EXPECTED = (LayerIsAway, OperationalError, errors.InternalError)


class World:
    """Servers, clients, a database and a channel layer, moved on by one clock."""

    def __init__(self, seed: int) -> None:
        self.clock, self.chance = Clock(), Chance(seed)
        self.network = Process(self.clock, self.chance, "network")
        self.users = [
            User(user_id=f"nurse_{n}", role="nurse", hospital_id=HOSPITAL) for n in range(1, USERS + 1)
        ]
        self.database = Database(self.clock, self.chance, self.users)
        self.layer = Layer(self.chance)
        self.servers: list[SimulatedServer] = []
        self.clients = [
            SimulatedClient(f"{user.user_id}.{n}", user, self.database, self.network, self.chance)
            for user in self.users
            for n in range(1, CLIENTS_OF_EACH + 1)
        ]
        self.is_sound = True
        self._names = itertools.count(1)
        self._log = UnforeseenErrors()
        self._stack = ExitStack()
        self._published = itertools.count(1)

    def open(self) -> None:
        self._stack.enter_context(override_settings(**BOUNDS))
        self._stack.enter_context(self.database.installed())
        self._stack.enter_context(self.layer.installed())
        self._stack.enter_context(self._log.installed())
        self._stack.callback(publisher.set_publisher, publisher._current)

    def close(self) -> None:
        self.heal()
        self.database.seconds = 0.0
        for server in self.servers:
            server.process.bury()
        self._stack.close()

    # Servers

    @property
    def running(self) -> list[SimulatedServer]:
        return [server for server in self.servers if server.is_alive]

    def start_server(self) -> None:
        name = f"server_{next(self._names)}"
        process = Process(self.clock, self.chance, name, lambda: self.database.seconds)
        self.servers.append(SimulatedServer(process, self.database))

    # What is committed

    def notify(
        self,
        server: SimulatedServer,
        users: Collection[int],
        count: int,
        size_bytes: int,
        *,
        is_urgent: bool = False,
    ) -> None:
        """Commit so many notices for these users, in one action; urgent ones overtake."""
        user_ids = [self.users[user].user_id for user in sorted(users)]
        make = alarm if is_urgent else notice
        notices = [make(f"notice_{next(self._published)}", size_bytes) for _ in range(count)]
        self.database.rows.notices |= {notice.subject(): notice for notice in notices}
        staff = Group(groups.staff(HOSPITAL).name, lambda: user_ids)
        server.publish(notices, staff if len(user_ids) > 1 else groups.person(user_ids[0]))

    def delete_notice(self, fraction: float) -> None:
        """Delete one of those there are."""
        if notices := list(self.database.rows.notices):
            del self.database.rows.notices[notices[int(fraction * len(notices))]]

    def restore(self, backup: Contents) -> None:
        """Everything is stopped, the database is restored, and one server started."""
        for server in self.running:
            server.crash()
        self.database.restore(backup)
        self.start_server()

    # Rules

    def check(self) -> None:
        """Raise the first Violation that has been seen."""
        self.is_sound = False
        for violation in self._violations():
            raise violation
        for server in self.running:
            invariants.check_bounds(server.hub)
        self.is_sound = True

    def _violations(self) -> Iterator[invariants.Violation]:
        for client in self.clients:
            yield from client.violations
        for server in self.servers:
            for transport in server.transports:
                for frame in transport.written_late:
                    yield invariants.AfterTheEnd(f"{transport.name} was sent {frame[:200]!r}")
            for broken in server.process.broken:
                yield invariants.Unforeseen(repr(broken))
        for record in self._log.unforeseen:
            yield invariants.Unforeseen(record)

    def settle(self) -> None:
        """Heal everything, let everybody connect, and raise Missing where somebody does not get all."""
        self.heal()
        if not self._happens_in_time(self._all_are_complete):
            missing = [client.progress for client in self.clients if not client.is_complete]
            raise invariants.Missing("; ".join(missing))

    def _all_are_complete(self) -> bool:
        self.connect_all()
        return all(client.is_complete for client in self.clients)

    def _happens_in_time(self, has_happened: Callable[[], bool]) -> bool:
        """Let time pass, until that has happened or SETTLED_SECONDS are over."""
        until = self.clock.now + SETTLED_SECONDS
        while not has_happened() and self.clock.now < until:
            self.clock.run_for(1)
            self.check()
        return has_happened()

    def heal(self) -> None:
        self.layer.weather, self.layer.is_away = Weather(), False
        self.database.seconds, self.database.failures = 0.02, 0.0
        for client in self.clients:
            if client.connection is not None:
                client.connection.transport.read_on()
        for server in self.running:
            server.process.frozen_until = 0.0

    def connect_all(self, first: int = 0) -> None:
        """All who are away come back together, to one server after the other."""
        if not self.running:
            self.start_server()
        for number, client in enumerate(self.clients, first):
            if client.connection is None:
                client.connect(self.running[number % len(self.running)], with_cursor=True)

    def leave_all(self) -> None:
        """Everybody leaves; raise Unbounded where a server keeps something of them."""
        for client in self.clients:
            client.leave(1000)
        self._happens_in_time(lambda: not any(server.hub.clients for server in self.running))
        for server in self.running:
            invariants.check_empty(server.hub)


def alarm(subject: str, size_bytes: int) -> Durable:
    return Alarm(message_id=subject, chat_room_id="x" * size_bytes, user_id="", delivered_at=None)


def notice(notification_id: str, size_bytes: int) -> Durable:
    return Notified(
        notification_id=notification_id,
        category="",  # no push
        title="A notice",
        body="x" * size_bytes,
        priority="normal",
        data={},
        timestamp=timezone.now(),
    )


class UnforeseenErrors(logging.Handler):
    """Errors that the product logged, but those that the simulation causes."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.unforeseen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, EXPECTED):
            self.unforeseen.append(f"{record.getMessage()}: {error!r}")

    @contextmanager
    def installed(self) -> Iterator[None]:
        logger = logging.getLogger("hplus")
        level = logger.level
        logger.addHandler(self)
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(level)
