"""Queues behind the connections are bounded in bytes, too: wake-ups and flights of hot statements."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from hplus.realtime.execution.hot_batch import HotBatch
from hplus.realtime.execution.hot_connection import Source
from hplus.realtime.publishing.envelopes import Delivery, Envelope
from hplus.realtime.publishing.publisher import Publisher


def delivery(number: int) -> Delivery:
    return Delivery("group", "", Envelope("notification", b"x" * 1000, subject=str(number)))


async def test_oldest_wakeups_are_dropped_where_too_many_bytes_wait(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PUBLISHER_BYTES = 10_000
    publisher, layer_is_back, sent = Publisher(asyncio.get_running_loop()), asyncio.Event(), []

    async def send(group: str, deliveries: list[tuple[str, dict[str, Any]]]) -> None:
        await layer_is_back.wait()
        sent.extend(envelope["subject"] for _, envelope in deliveries)

    monkeypatch.setattr(publisher, "_send", send)
    publisher.publish_in_loop([delivery(0)])
    await asyncio.sleep(0)
    publisher.publish_in_loop([delivery(number) for number in range(1, 50)])
    assert publisher._waiting_bytes == 10_000
    layer_is_back.set()
    await publisher.drained()
    assert sent == ["0", *map(str, range(40, 50))]
    assert publisher._waiting_bytes == 0


class Hot:
    """Stands for an open connection that flies when it is told."""

    is_open = True

    def __init__(self) -> None:
        self.requests = 0
        self.source: Source

    def request(self, source: Source) -> None:
        self.requests += 1
        self.source = source


class Fast:
    statement = None

    def row_of(self, command: str) -> dict[str, str]:
        return {"text": command}


def test_flight_takes_as_many_commands_as_fit_and_at_least_one(settings: Any) -> None:
    settings.FLIGHT_BYTES = 1000
    hot: Any = Hot()
    fast: Any = Fast()
    ordinary: Any = None
    batch = HotBatch([hot], fast, ordinary)
    commands = ["x" * 2000, *("y" * 300 for _ in range(6)), "z"]
    for command in commands:
        batch.submit(command, lambda _: None)
    flights = []
    while flight := hot.source.next_flight():
        flights.append([(row["n"], row["text"]) for row in orjson.loads(flight.parameters[0])])
    assert [len(flight) for flight in flights] == [1, 4, 3]
    assert [text for flight in flights for _, text in flight] == commands
    assert [[n for n, _ in flight] for flight in flights] == [[0], [0, 1, 2, 3], [0, 1, 2]]
    assert hot.requests == len(flights)
