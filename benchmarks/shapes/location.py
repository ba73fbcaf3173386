"""Crews who send a position a second, and watchers with a map of all of them."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from datetime import UTC, datetime
from functools import partial

import orjson

from benchmarks.shapes.run import Outcome, Run, all_there
from benchmarks.tally import Faults, faults_in, percentile
from benchmarks.websocket import LoadClient
from hplus.protocol.wire import rfc3339

INTERVAL_SECONDS = 1.0
WATCH = b'{"type":"watchLocations","on":true}'


class Positions:
    """What each crew has sent and each watcher has seen: positions are known by their timestamps."""

    def __init__(self, senders: list[str], watchers: int) -> None:
        self.sent: dict[str, dict[str, float]] = {sender: {} for sender in senders}  # timestamp → when
        self.seen: list[list[tuple[str, str, float]]] = [[] for _ in range(watchers)]  # whose, which, when
        self.unasked = 0  # positions that came to the crews

    def on_watcher_frame(self, number: int, frame: bytes) -> None:
        if frame.startswith(b'{"type":"locationUpdate"'):
            position = orjson.loads(frame)
            key = position["userId"], position["data"]["location"]["timestamp"]
            self.seen[number].append((*key, time.perf_counter()))

    def on_sender_frame(self, frame: bytes) -> None:
        self.unasked += frame.startswith(b'{"type":"locationUpdate"')

    def note_sent(self, sender: str, timestamp: str) -> None:
        self.sent[sender][timestamp] = time.perf_counter()

    def is_complete(self) -> bool:
        count = sum(map(len, self.sent.values()))
        return all(len(seen) >= count for seen in self.seen)

    def faults(self) -> Faults:
        found = Faults()
        for seen in self.seen:
            by_sender = defaultdict(list)
            for sender, timestamp, _ in seen:
                by_sender[sender].append(timestamp)
            for sender, sent in self.sent.items():
                found += faults_in(by_sender[sender], sent)
        return found

    def arrivals(self) -> list[tuple[float, float]]:
        """When each position was sent, and when a watcher had it."""
        return [(self.sent[sender][stamp], at) for seen in self.seen for sender, stamp, at in seen]


async def watched(run: Run) -> Outcome:
    """Every watcher asks for every position of the hospital."""
    sizes = run.sizes
    accounts = await run.accounts(["paramedic"] * sizes.senders + ["nurse"] * sizes.watchers)
    crews = accounts[: sizes.senders]
    positions = Positions([crew.user_id for crew in crews], sizes.watchers)
    on_frames = [positions.on_sender_frame] * sizes.senders
    on_frames += [partial(positions.on_watcher_frame, n) for n in range(sizes.watchers)]
    clients = await run.open(accounts, on_frames)
    for watcher in clients[sizes.senders :]:
        watcher.send(WATCH)
    await asyncio.sleep(sizes.settle_seconds)

    begins_at = time.perf_counter() + sizes.warm_up_seconds
    ends_at = begins_at + sizes.seconds
    driving = [
        asyncio.create_task(_drive(positions, crew.user_id, client, n / len(crews), ends_at))
        for n, (crew, client) in enumerate(zip(crews, clients, strict=False))
    ]
    await asyncio.sleep(begins_at - time.perf_counter())
    began_at, meter = time.perf_counter(), run.meter()
    await asyncio.gather(*driving)
    await asyncio.sleep(max(0, ends_at - time.perf_counter()))
    ended_at, cost = time.perf_counter(), meter.stop()
    await all_there(positions.is_complete)
    await run.close()

    arrivals = positions.arrivals()
    count = sum(began_at <= at < ended_at for _, at in arrivals)
    ages_ms = [1000 * (at - sent_at) for sent_at, at in arrivals if began_at <= sent_at < ended_at]
    figures = {
        "positions a second to watchers": count / cost.wall_seconds,
        "positions a second to others": positions.unasked / (sizes.warm_up_seconds + sizes.seconds),
        **cost.per(count, "position"),
        "p50, ms from send to watcher": percentile(ages_ms, 50),
        "p99, ms from send to watcher": percentile(ages_ms, 99),
    }
    return Outcome(figures, positions.faults())


async def _drive(
    positions: Positions, user_id: str, client: LoadClient, offset_seconds: float, until: float
) -> None:
    """A position a second; the crews are spread over the second."""
    due_at, step = time.perf_counter() + offset_seconds, 0
    while due_at < until:
        await asyncio.sleep(max(0, due_at - time.perf_counter()))
        timestamp = rfc3339(datetime.now(UTC))
        location = {
            "lat": 37.7 + step / 100_000,
            "lng": -122.4,
            "accuracy": 5.0,
            "speed": 1.1,
            "heading": 0.0,
            "timestamp": timestamp,
        }
        positions.note_sent(user_id, timestamp)
        client.send(orjson.dumps({"type": "locationUpdate", "data": {"location": location}}))
        due_at, step = due_at + INTERVAL_SECONDS, step + 1
