"""What may happen, in any order: the rules of hypothesis' state machine."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.simulation.client import SimulatedClient
from tests.simulation.layer import Weather
from tests.simulation.server import SimulatedServer
from tests.simulation.world import CLIENTS_OF_EACH, SERVERS, USERS, World

NUMBER = st.integers(0, USERS * CLIENTS_OF_EACH * SERVERS - 1)  # which one, of however many there are
USER_NUMBERS = st.sets(st.integers(0, USERS - 1), min_size=1)
SIZES = st.sampled_from([10, 400])  # bytes
FRACTION = st.floats(0, 1, exclude_max=True)
RETENTION_SECONDS = 120  # longer than anything takes to be delivered


class Simulation(RuleBasedStateMachine):
    """Several servers and clients; after each step the invariants hold, and at the end nothing is missing."""

    @initialize(seed=st.integers(0, 2**32 - 1), servers=st.integers(1, SERVERS))
    def begin(self, seed: int, servers: int) -> None:
        self.world = World(seed)
        self.world.open()
        self.backup = self.world.database.rows.copy()
        for _ in range(servers):
            self.world.start_server()
        self.world.clock.run_for(1)
        self.world.connect_all()
        self.world.clock.run_for(1)

    def _server(self, number: int) -> SimulatedServer:
        running = self.world.running
        return running[number % len(running)]

    def _client(self, number: int) -> SimulatedClient:
        return self.world.clients[number % len(self.world.clients)]

    @property
    def _is_served(self) -> bool:
        return bool(self.world.running)

    # Commits

    @precondition(lambda self: self._is_served)
    @rule(number=NUMBER, users=USER_NUMBERS, count=st.integers(1, 30), size_bytes=SIZES)
    def notify(self, number: int, users: set[int], count: int, size_bytes: int) -> None:
        """One action that publishes many events."""
        self.world.notify(self._server(number), users, count, size_bytes)

    @precondition(lambda self: self._is_served)
    @rule(number=NUMBER, users=USER_NUMBERS, count=st.integers(1, 3))
    def alarm(self, number: int, users: set[int], count: int) -> None:
        """Urgent events, which overtake what waits for a slow reader."""
        self.world.notify(self._server(number), users, count, 10, is_urgent=True)

    @rule(users=USER_NUMBERS, actions=st.integers(1, 10), size_bytes=SIZES)
    def notify_from_everywhere(self, users: set[int], actions: int, size_bytes: int) -> None:
        """Many actions that publish one event each, at the same time on all servers."""
        for server in self.world.running * actions:
            self.world.notify(server, users, 1, size_bytes)

    @rule(fraction=FRACTION)
    def delete_notice(self, fraction: float) -> None:
        self.world.delete_notice(fraction)

    @rule()
    def expire_entries(self) -> None:
        self.world.database.expire(RETENTION_SECONDS)

    # Clients

    @precondition(lambda self: self._is_served)
    @rule(number=NUMBER, server=NUMBER, with_cursor=st.booleans())
    def connect(self, number: int, server: int, with_cursor: bool) -> None:
        client = self._client(number)
        client.leave(None)
        client.connect(self._server(server), with_cursor=with_cursor)

    @precondition(lambda self: self._is_served)
    @rule(number=NUMBER)
    def connect_all(self, number: int) -> None:
        self.world.connect_all(number)

    @rule(number=NUMBER, code=st.sampled_from([1000, 1006, None]))
    def leave(self, number: int, code: int | None) -> None:
        self._client(number).leave(code)

    @rule(number=NUMBER, is_reading=st.booleans())
    def stall_or_read_on(self, number: int, is_reading: bool) -> None:
        if connection := self._client(number).connection:
            (connection.transport.read_on if is_reading else connection.transport.stall)()

    @rule(number=NUMBER, back=st.integers(0, 40))
    def sync(self, number: int, back: int) -> None:
        if connection := self._client(number).connection:
            connection.sync(back)

    # Servers, channel layer and database

    @rule()
    def start_servers(self) -> None:
        while len(self.world.running) < SERVERS:
            self.world.start_server()

    @precondition(lambda self: self._is_served)
    @rule(number=NUMBER, end=st.sampled_from(["stop", "crash", "restore"]))
    def end_server(self, number: int, end: str) -> None:
        """Stop or kill one; or all of them, when the database is restored as it was."""
        if end == "restore":
            self.world.restore(self.backup)
        elif end == "stop":
            self._server(number).stop()
        else:
            self._server(number).crash()

    @precondition(lambda self: self._is_served)
    @rule(number=NUMBER, seconds=st.sampled_from([0.5, 5.0, 20.0]))
    def freeze_server(self, number: int, seconds: float) -> None:
        self._server(number).process.frozen_until = self.world.clock.now + seconds

    @rule(
        loss=st.sampled_from([0.0, 0.1, 1.0]),
        doubling=st.sampled_from([0.0, 0.3]),
        seconds=st.sampled_from([0.05, 0.3, 4.0]),
        is_away=st.sampled_from([False, False, True]),
    )
    def change_layer(self, loss: float, doubling: float, seconds: float, is_away: bool) -> None:
        self.world.layer.weather = Weather(loss, doubling, seconds)
        if is_away:
            self.world.layer.go_away()
        self.world.layer.is_away = is_away

    @rule(seconds=st.sampled_from([0.02, 0.02, 0.5, 12.0]), failures=st.sampled_from([0.0, 0.2]))
    def change_database(self, seconds: float, failures: float) -> None:
        self.world.database.seconds, self.world.database.failures = seconds, failures

    # Time

    @rule(seconds=st.sampled_from([0.03, 0.3, 3.0, 15.0]))
    def wait(self, seconds: float) -> None:
        self.world.clock.run_for(seconds)

    @rule()
    def settle(self) -> None:
        self.world.settle()
        self.backup = self.world.database.rows.copy()

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "world"):
            self.world.clock.run_for(0.01)
            self.world.check()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if self.world.is_sound:
                self.world.settle()
                self.world.leave_all()
        finally:
            self.world.close()
