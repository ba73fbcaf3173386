"""The queue of a fast path: one connection while there is little to do, all of them with a backlog."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, cast

import orjson
from hypothesis import given
from hypothesis import strategies as st

from hplus.realtime.execution.batching import Batch
from hplus.realtime.execution.hot_batch import BACKLOG, HotBatch
from hplus.realtime.execution.hot_connection import Failed, Flight, HotConnection, Row, Source, Statement


class Connection:
    """A hot connection of this test: one flight at a time, which lands when the test says so."""

    is_open = True

    def __init__(self) -> None:
        self.waiting: list[Source] = []
        self.flight: Flight | None = None

    def request(self, source: Source) -> None:
        self.waiting.append(source)

    def take_off(self) -> None:
        while self.flight is None and self.waiting:
            self.flight = self.waiting.pop(0).next_flight()

    def land(self) -> list[int]:
        """Land what is on its way. Returns the commands that are done by it, in order."""
        flight, self.flight = self.flight, None
        if flight is None:
            return []
        rows = orjson.loads(flight.parameters[0])
        flight.land([(str(row["command"]).encode(),) for row in rows])
        return [row["command"] for row in rows]


@dataclass(frozen=True)
class Command:
    number: int
    key: int


class Fast:
    """A fast path that does everything, and says what it has done."""

    statement = Statement("nothing", "SELECT 1")

    def key_of(self, command: Command) -> int:
        return command.key

    def row_of(self, command: Command) -> dict[str, Any]:
        return {"command": command.number}

    def may_be_repeated(self, command: Command) -> bool:
        return True

    def land(self, rows_out: list[dict[str, Any]], rows_in: list[Row]) -> list[Any]:
        return [f"done {row['command']}" for row in rows_out]


class World:
    def __init__(self, connections: int = 2) -> None:
        self.connections = [Connection() for _ in range(connections)]
        hot = cast("list[HotConnection]", self.connections)
        self.batch = HotBatch(hot, Fast(), cast("Batch[Any]", None))
        self.outcomes: dict[int, list[Any]] = defaultdict(list)
        self.count = 0

    def submit(self, key: int) -> None:
        number, self.count = self.count, self.count + 1
        self.batch.submit(Command(number, key), self.outcomes[number].append)

    def take_off(self) -> None:
        for connection in self.connections:
            connection.take_off()

    def flying(self) -> list[int]:
        """Return how many commands are on their way on each connection."""
        flights = [connection.flight for connection in self.connections]
        return [len(orjson.loads(flight.parameters[0])) if flight else 0 for flight in flights]


def test_few_commands_fly_on_one_connection_however_their_keys_differ() -> None:
    world = World()
    for key in range(BACKLOG - 1):
        world.submit(key)
    world.take_off()
    assert world.flying() == [BACKLOG - 1, 0]


def test_backlog_flies_on_all_connections_and_one_is_enough_again_after_it() -> None:
    world = World()
    world.submit(0)
    world.take_off()
    for key in range(2 * BACKLOG):
        world.submit(key)
    world.take_off()
    assert world.flying() == [1, 0], "nothing overtakes what is on its way"
    world.connections[0].land()
    world.take_off()
    world.take_off()
    assert world.flying() == [BACKLOG, BACKLOG]
    for connection in world.connections:
        connection.land()
    world.submit(1)
    world.take_off()
    assert world.flying() == [1, 0]


def test_single_connection_takes_a_backlog_alone() -> None:
    world = World(connections=1)
    for key in range(2 * BACKLOG):
        world.submit(key)
    world.take_off()
    assert world.flying() == [2 * BACKLOG]


class Asking:
    """A source with more than fits into one flight."""

    def __init__(self, hot: HotConnection) -> None:
        self.hot, self.left, self.failed = hot, 3, 0

    def next_flight(self) -> Flight | None:
        self.left -= 1
        if self.left:
            self.hot.request(self)
        return Flight(Fast.statement, (), lambda _: None, self.fail)

    def fail(self, failed: Failed) -> None:
        self.failed += 1


async def test_connection_that_breaks_fails_all_that_waits_and_what_is_asked_for_meanwhile() -> None:
    hot = HotConnection()  # not opened: nothing flies
    source = Asking(hot)
    hot.request(source)
    hot._is_closed = True  # so that it is not opened again
    hot._break(Failed("the database does not answer"))
    assert (source.left, source.failed) == (0, 3)


STEPS = st.one_of(
    st.tuples(st.just("submit"), st.lists(st.integers(0, 5), min_size=1, max_size=2 * BACKLOG)),
    st.tuples(st.just("land"), st.integers(0, 1)),
    st.tuples(st.just("take off"), st.integers(0, 1)),
)


@given(st.lists(STEPS, max_size=60))
def test_commands_of_one_key_are_done_once_and_in_their_order(steps: list[tuple[str, Any]]) -> None:
    world, done, key_of = World(), [], {}
    for what, given_ in steps:
        if what == "submit":
            for key in given_:
                key_of[world.count] = key
                world.submit(key)
        elif what == "land":
            done += world.connections[given_].land()
        else:
            world.connections[given_].take_off()
    while any(connection.waiting or connection.flight for connection in world.connections):
        world.take_off()
        for connection in world.connections:
            done += connection.land()
    assert sorted(done) == list(range(world.count))
    assert all(world.outcomes[number] == [f"done {number}"] for number in done)
    for key in set(key_of.values()):
        own = [number for number in done if key_of[number] == key]
        assert own == sorted(own)
