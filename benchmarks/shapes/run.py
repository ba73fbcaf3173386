"""What a shape is given, and what it hands back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.servers import Server, cpu_seconds
from benchmarks.storage import Storage
from benchmarks.tally import Faults
from benchmarks.websocket import Account, LoadClient, OnFrame, open_client

PATIENCE_SECONDS = 20  # what has not come by then counts as lost
OPENING_AT_ONCE = 50


@dataclass(frozen=True)
class Sizes:
    """How many take part, and for how long."""

    seconds: float = 8
    warm_up_seconds: float = 3
    settle_seconds: float = 3  # after connecting: presence, and what waits for those who join no room
    idle_seconds: float = 8
    chat_users: int = 100
    chat_rate: float = 300  # messages a second of all together
    saturation_users: int = 200  # each has one message on its way
    comers: int = 300
    phones: int = 1500
    missed_messages: int = 2  # of each phone while it was away
    idle_connections: int = 1000
    senders: int = 500  # of a position a second
    watchers: int = 20
    staff: int = 1000
    calls_for_help: int = 5

    @classmethod
    def quick(cls) -> Sizes:
        """A few users and a second each: whether it works, not how fast it is."""
        return cls(
            seconds=1,
            warm_up_seconds=0.5,
            settle_seconds=0.5,
            idle_seconds=1,
            chat_users=8,
            chat_rate=40,
            saturation_users=8,
            comers=10,
            phones=20,
            idle_connections=20,
            senders=10,
            watchers=2,
            staff=10,
            calls_for_help=2,
        )


@dataclass
class Outcome:
    """The figures of one run, by the labels they have in the table."""

    figures: dict[str, float]
    faults: Faults | None = None  # None where nothing is delivered
    count: int = 0  # of messages, where there are some


@dataclass
class Run:
    """One server under one load."""

    server: Server
    storage: Storage
    sizes: Sizes
    clients: list[LoadClient] = field(default_factory=list)

    async def accounts(self, roles: Sequence[str], hospitals: int = 1) -> list[Account]:
        """New accounts, see `Storage.accounts`."""
        return await asyncio.to_thread(self.storage.accounts, roles, hospitals)

    async def open(self, accounts: Sequence[Account], on_frames: Sequence[OnFrame]) -> list[LoadClient]:
        """Connect these accounts, some at a time, and let the server settle."""
        gate = asyncio.Semaphore(OPENING_AT_ONCE)

        async def one(account: Account, on_frame: OnFrame) -> LoadClient:
            async with gate:
                return await open_client(self.server.port, account, on_frame)

        opened = await asyncio.gather(*map(one, accounts, on_frames))
        self.clients += opened
        await asyncio.sleep(self.sizes.settle_seconds)
        return opened

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.close() for client in self.clients))
        self.clients.clear()

    def meter(self) -> Meter:
        return Meter(self)


class Meter:
    """The CPU time of server and PostgreSQL since its making."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._began_at = time.perf_counter()
        self._server_seconds, self._postgres_seconds = self._spent()

    def _spent(self) -> tuple[float, float]:
        return self._run.server.cpu_seconds(), cpu_seconds(self._run.storage.postgres_pid)

    def stop(self) -> Cost:
        server, postgres = self._spent()
        wall_seconds = time.perf_counter() - self._began_at
        return Cost(server - self._server_seconds, postgres - self._postgres_seconds, wall_seconds)


@dataclass(frozen=True)
class Cost:
    """CPU seconds that were spent, and in which time."""

    server_seconds: float
    postgres_seconds: float
    wall_seconds: float

    def per(self, count: int, what: str) -> dict[str, float]:
        """µs for each of `count`."""
        return {
            f"CPU, µs a {what}": 1e6 * self.server_seconds / max(1, count),
            f"PostgreSQL's CPU, µs a {what}": 1e6 * self.postgres_seconds / max(1, count),
        }


async def all_there(is_complete: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    """Wait until everything has come. Returns False where it has not for that long."""
    deadline = time.monotonic() + seconds
    while not is_complete() and time.monotonic() < deadline:  # noqa: ASYNC110 nothing could wake this up
        await asyncio.sleep(0.02)
    return is_complete()
