"""What a chat message costs, side by side with a peer that promises less.

    python manage.py serve            # in demo mode, on PostgreSQL and Redis, HPLUS_MESSAGES_PER_MINUTE=0
    (cd benchmarks/peer && npm install && node server.js)        # on the same two
    python benchmarks/chat.py --pid <pid of serve> --peer-pid <pid of node>

Pairs of people write to each other; everyone has one message on its way (or, with --rate, all
together send so many a second). The two servers take turns, because the speed of a machine varies,
and what counts is the ratio of the medians at the end. `ack` is from the send to the sender's own
`newMessage`, which comes after the commit; `cpuMs` is user and system time of the server process
for each message, where /proc tells it. Exit status 1 if a message was lost or came twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

HOSPITAL = "hospital_001"
PATIENCE_SECONDS = 20
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Writer:
    """One of a pair: writes, and counts what comes back of both."""

    other: Writer

    def __init__(self, name: str, socket: ClientConnection) -> None:
        self.name, self.socket = name, socket
        self.sent_at: dict[str, float] = {}
        self.acks_seconds: list[float] = []
        self.heard: Counter[str] = Counter()
        self.is_free = asyncio.Event()

    async def write(self) -> None:
        text = f"{self.name} {len(self.sent_at)}"
        self.is_free.clear()
        self.sent_at[text] = time.perf_counter()
        command = {
            "type": "sendMessage",
            "receiverId": self.other.name,
            "hospitalId": HOSPITAL,
            "message": text,
        }
        await self.socket.send(json.dumps(command))

    async def listen(self) -> None:
        async for frame in self.socket:
            if not str(frame).startswith('{"type":"newMessage"'):
                continue
            text = json.loads(frame)["data"]["message"]
            self.heard[text] += 1
            if text in self.sent_at and self.heard[text] == 1:
                self.acks_seconds.append(time.perf_counter() - self.sent_at[text])
                self.is_free.set()

    async def keep_writing(self, until: float) -> None:
        while time.perf_counter() < until:
            await self.write()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.is_free.wait()

    async def write_at_rate(self, until: float, every_seconds: float, first_in: float) -> None:
        due_at = time.perf_counter() + first_in
        while due_at < until:
            await asyncio.sleep(due_at - time.perf_counter())
            await self.write()
            due_at += every_seconds

    def missing(self) -> int:
        """How many messages of the two have not come."""
        return sum(self.heard[text] == 0 for text in (*self.sent_at, *self.other.sent_at))


async def arrive(stack: AsyncExitStack, url: str, run: str, pairs: int) -> list[Writer]:
    """Make new users in each run, so that no mailbox has entries of the run before."""
    writers = []
    for number in range(2 * pairs):
        name, role = f"bench_{run}_{number}", "doctor" if number % 2 else "nurse"
        who = f"userId={name}&role={role}&hospitalId={HOSPITAL}"
        socket = await stack.enter_async_context(connect(f"{url}/?{who}", compression=None, open_timeout=60))
        await socket.recv()
        writers.append(Writer(name, socket))
    for one, other in zip(writers[::2], writers[1::2], strict=True):
        one.other, other.other = other, one
    return writers


async def one_run(url: str, pid: int | None, run: str, asked: argparse.Namespace) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        writers = await arrive(stack, url, run, asked.pairs)
        listening = [asyncio.create_task(writer.listen()) for writer in writers]
        cpu_seconds, until = cpu_of(pid), time.perf_counter() + asked.seconds
        every = len(writers) / asked.rate if asked.rate else 0
        await asyncio.gather(
            *(
                w.write_at_rate(until, every, every * n / len(writers)) if every else w.keep_writing(until)
                for n, w in enumerate(writers)
            )
        )
        await all_there(writers)
        spent = cpu_of(pid) - cpu_seconds
        for task in listening:
            task.cancel()
    return report(writers, spent, asked.seconds)


async def all_there(writers: list[Writer]) -> None:
    """Wait until both sides have everything, or for long enough."""
    deadline = time.perf_counter() + PATIENCE_SECONDS
    while time.perf_counter() < deadline and any(writer.missing() for writer in writers):  # noqa: ASYNC110
        await asyncio.sleep(0.05)


def report(writers: list[Writer], cpu_seconds: float, seconds: float) -> dict[str, Any]:
    acks = sorted(ack for writer in writers for ack in writer.acks_seconds)
    return {
        "perSecond": round(len(acks) / seconds),
        "ackMs": {
            "p50": round(1000 * acks[len(acks) // 2], 1),
            "p99": round(1000 * acks[len(acks) * 99 // 100], 1),
        },
        "cpuMs": round(1000 * cpu_seconds / len(acks), 3) if cpu_seconds else None,
        "lost": sum(writer.missing() for writer in writers),
        "twice": sum(count > 1 for writer in writers for count in writer.heard.values()),
    }


def cpu_of(pid: int | None) -> float:
    """User and system seconds of a process so far; 0 where that is not known."""
    stat = Path(f"/proc/{pid}/stat")
    if pid is None or not stat.exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def ratio(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], name: str) -> float | None:
    values = [[run[name] for run in runs if run[name]] for runs in (ours, theirs)]
    return round(median(values[0]) / median(values[1]), 2) if all(values) else None


async def main(asked: argparse.Namespace) -> int:
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    for number in range(asked.rounds):
        run = f"{int(time.time())}_{number}"
        for name, url, pid, runs in (
            ("hplus", asked.url, asked.pid, ours),
            ("peer", asked.peer, asked.peer_pid, theirs),
        ):
            if url:
                runs.append(await one_run(url, pid, run, asked))
                print(json.dumps({name: runs[-1]}), flush=True)  # noqa: T201 its output is what it is for
    if theirs:
        print(json.dumps({"ratio": {n: ratio(ours, theirs, n) for n in ("perSecond", "cpuMs")}}))  # noqa: T201
    return int(any(run["lost"] or run["twice"] for run in (*ours, *theirs)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", default="ws://127.0.0.1:5000")
    parser.add_argument("--peer", default="ws://127.0.0.1:8300", help="blank: only HPlus")
    parser.add_argument("--pid", type=int, help="process of HPlus")
    parser.add_argument("--peer-pid", type=int, help="process of the peer")
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rate", type=float, default=0, help="messages a second of all together")
    parser.add_argument("--rounds", type=int, default=3)
    sys.exit(asyncio.run(main(parser.parse_args())))
