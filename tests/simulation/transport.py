"""One connection: the server's transport, the network, and the reader at the other end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from hplus.realtime.connection.transport import CLOSE_SECONDS, Sink
from tests.simulation.clock import Chance, Process

HIGH_WATER_BYTES = 2_000  # that the network holds for a reader, before the server has to wait
LATENCY_SECONDS = 0.05
VANISHED_SECONDS = 50  # until the server's pings find out that nobody is there any more


class Reader(Protocol):
    """The client at the other end."""

    def take(self, frame: bytes) -> None: ...
    def on_closed(self, code: int) -> None: ...


class SimulatedTransport:
    """What `Transport` and an ASGI server promise to a connection, with a network that takes its time.

    `written_late` are frames that the server wrote after it had closed the connection, or had been told
    that the client has gone.
    """

    def __init__(self, process: Process, network: Process, chance: Chance, name: str, reader: Reader) -> None:
        self.process, self.network, self.name, self.is_writable = process, network, name, True
        self.written_late: list[bytes] = []
        self._chance, self._reader = chance, reader
        self._sink: Sink | None = None
        self._on_end: Callable[[int], None] | None = None
        self._under_way: deque[bytes | int] = deque()  # frames, and the code of a close
        self._is_stalled = self._is_flowing = False
        self._closed_with: int | None = None  # by the server
        self._left_with: int | None = None  # by the client
        self._ended_at: float | None = None  # when the server was told that it is over
        self._connected: list[dict[str, Any]] = [{"type": "websocket.connect"}]

    # What ASGI offers for the handshake

    async def receive(self) -> dict[str, Any]:
        if not self._connected:
            await self.process.create_future()
        return self._connected.pop()

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            self.write(message["text"].encode())
        elif message["type"] == "websocket.close":
            await self.close(message["code"])

    # What the connection uses

    def attach(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, frame: bytes) -> None:
        if self._is_over:
            self.written_late.append(frame)
            return
        self._under_way.append(frame)
        self.is_writable = self._bytes_under_way <= HIGH_WATER_BYTES
        self._flow()

    @property
    def _is_over(self) -> bool:
        """Whether the server has closed it, or has had its turn to note that the client has gone."""
        has_noted = self._ended_at is not None and self._ended_at < self.process.time()
        return self._closed_with is not None or has_noted

    def write_many(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self.write(frame)

    def resume_reading(self) -> None:
        """The simulated client never sends more than is taken."""

    async def run(self) -> int:
        ended: asyncio.Future[int] = self.process.create_future()
        self.hand_over(ended.set_result)
        return await ended

    def hand_over(self, on_end: Callable[[int], None]) -> bool:
        self._on_end = on_end
        for code in (self._closed_with, self._left_with):
            if code is not None:
                self._end(code)
        return True

    async def close(self, code: int) -> None:
        if self._closed_with is None and self._left_with is None:
            self._closed_with = code
            self._under_way.append(code)
            self._flow()
            self.network.call_later(CLOSE_SECONDS, self.cut)
            self._end(code)

    def _end(self, code: int) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            self._ended_at = self.process.time()
            on_end(code)

    # The network

    @property
    def _bytes_under_way(self) -> int:
        return sum(len(frame) for frame in self._under_way if isinstance(frame, bytes))

    def _flow(self) -> None:
        if not self._is_flowing and not self._is_stalled and self._under_way:
            self._is_flowing = True
            latency = self._chance.seconds(LATENCY_SECONDS, self.name, "latency")
            self.network.call_later(latency, self._arrive)

    def _arrive(self) -> None:
        """The reader gets what is under way, unless it stalls or has gone."""
        self._is_flowing = False
        while self._under_way and not self._is_stalled:
            frame = self._under_way.popleft()
            if isinstance(frame, int):
                self._reader.on_closed(frame)
            else:
                self._reader.take(frame)
        if not self.is_writable and not self._under_way:
            self.process.call_soon(self._become_writable)

    def _become_writable(self) -> None:
        self.is_writable = True
        if self._sink is not None and self._closed_with is None and self._left_with is None:
            self._sink.on_writable()

    def cut(self) -> None:
        """The connection breaks; what is under way is lost."""
        self._under_way.clear()
        self._reader.on_closed(1006)

    # What the client does

    def say(self, frame: bytes) -> bool:
        """Send a frame to the server. Returns whether it is taken: the handshake is over."""
        if self._on_end is None or self._sink is None:
            return False
        self.process.call_soon(self._sink.take, frame)
        return True

    def stall(self) -> None:
        self._is_stalled = True

    def read_on(self) -> None:
        self._is_stalled = False
        self._flow()

    def leave(self, code: int | None) -> None:
        """Close with this code; without one vanish, so that the server notices much later."""
        self._is_stalled = True
        most = VANISHED_SECONDS if code is None else LATENCY_SECONDS
        self.process.call_later(self._chance.seconds(most, self.name, "leave"), self._on_left, code or 1006)

    def _on_left(self, code: int) -> None:
        if self._closed_with is None:
            self._left_with = code
            self._end(code)
