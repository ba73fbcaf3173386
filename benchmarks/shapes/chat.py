"""Pairs of people write to each other: at a fixed rate, or as fast as the server answers."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict

from benchmarks.shapes.run import Outcome, Run, all_there
from benchmarks.tally import Faults, faults_in, percentile
from benchmarks.websocket import Account, LoadClient, OnFrame

ROLES = ("doctor", "nurse")
HOSPITALS = 10
NEW_MESSAGE = b'{"type":"newMessage"'
MARK = b'"message":"~'  # the text of a message begins with who wrote it, and the how many-th it is
PADDING = "The patient in room four asks for you, it is not urgent."


class Conversation:
    """Users who write by pairs, what each has sent, and what each connection has heard."""

    def __init__(self, accounts: list[Account], *, writes_on_echo: bool) -> None:
        self.accounts = accounts
        self.clients: list[LoadClient] = []
        self.sent_at: list[list[float]] = [[] for _ in accounts]
        self.heard: list[list[tuple[int, int, float]]] = [[] for _ in accounts]  # who, how many-th, when
        self.errors: list[bytes] = []
        self.is_open = writes_on_echo  # whoever hears the own message writes the next one

    def listener(self, me: int) -> OnFrame:
        heard, clock = self.heard[me], time.perf_counter

        def on_frame(frame: bytes) -> None:
            if not frame.startswith(NEW_MESSAGE):
                self._note_error(frame)
                return
            start = frame.index(MARK) + len(MARK)
            sender, number = map(int, frame[start : frame.index(b"~", start)].split(b"."))
            heard.append((sender, number, clock()))
            if sender == me and self.is_open:
                self.write(me)

        return on_frame

    def _note_error(self, frame: bytes) -> None:
        if frame.startswith(b'{"type":"error"'):
            self.errors.append(frame)

    def write(self, me: int) -> None:
        other, number = self.accounts[me ^ 1], len(self.sent_at[me])
        text = f"~{me}.{number}~ {PADDING}"
        frame = (
            f'{{"type":"sendMessage","receiverId":"{other.user_id}","hospitalId":"{other.hospital_id}",'
            f'"message":"{text}","messageType":"text","timestamp":"2026-01-01T08:00:00.000000"}}'
        )
        self.sent_at[me].append(time.perf_counter())
        self.clients[me].send(frame.encode())

    async def write_at_rate(self, per_second: float, until: float) -> None:
        """Each in turn, at even intervals; what was late is sent at once."""
        turns, due_at = itertools.cycle(range(len(self.accounts))), time.perf_counter()
        while due_at < until:
            await asyncio.sleep(max(0, due_at - time.perf_counter()))
            self.write(next(turns))
            due_at += 1 / per_second

    def is_complete(self) -> bool:
        """Whether both sides have as many messages as both have written."""
        return all(
            len(heard) >= len(self.sent_at[me]) + len(self.sent_at[me ^ 1])
            for me, heard in enumerate(self.heard)
        )

    def faults(self) -> Faults:
        found = Faults()
        for me, heard in enumerate(self.heard):
            by_sender = defaultdict(list)
            for sender, number, _ in heard:
                by_sender[sender].append(number)
            for sender in (me, me ^ 1):
                found += faults_in(by_sender[sender], range(len(self.sent_at[sender])))
        return found

    def arrivals(self) -> list[tuple[float, float]]:
        """When each message was written, and when its receiver had it."""
        return [
            (self.sent_at[sender][number], at)
            for me, heard in enumerate(self.heard)
            for sender, number, at in heard
            if sender != me
        ]


async def at_rate(run: Run) -> Outcome:
    """CHAT_RATE messages a second of all together."""
    return await _measure(run, run.sizes.chat_users, run.sizes.chat_rate)


async def at_saturation(run: Run) -> Outcome:
    """Everybody has one message on its way."""
    return await _measure(run, run.sizes.saturation_users, None)


async def _measure(run: Run, users: int, per_second: float | None) -> Outcome:
    accounts = await run.accounts([ROLES[n % 2] for n in range(users)], HOSPITALS)
    chat = Conversation(accounts, writes_on_echo=per_second is None)
    chat.clients = await run.open(accounts, [chat.listener(me) for me in range(users)])
    begins_at = time.perf_counter() + run.sizes.warm_up_seconds
    ends_at = begins_at + run.sizes.seconds
    writing = asyncio.create_task(_write(chat, per_second, ends_at))
    await asyncio.sleep(begins_at - time.perf_counter())
    began_at, meter = time.perf_counter(), run.meter()
    await writing
    ended_at, cost = time.perf_counter(), meter.stop()
    await all_there(chat.is_complete)
    await run.close()
    if chat.errors:
        raise RuntimeError(f"{run.server.name} refused a message: {chat.errors[0].decode()}")
    arrivals = chat.arrivals()
    count = sum(began_at <= at < ended_at for _, at in arrivals)
    waits_ms = [1000 * (at - sent_at) for sent_at, at in arrivals if began_at <= sent_at < ended_at]
    figures = {
        "messages a second": count / cost.wall_seconds,
        **cost.per(count, "message"),
        "p50, ms from send to receiver": percentile(waits_ms, 50),
        "p99, ms from send to receiver": percentile(waits_ms, 99),
    }
    return Outcome(figures, chat.faults(), count)


async def _write(chat: Conversation, per_second: float | None, until: float) -> None:
    if per_second is not None:
        await chat.write_at_rate(per_second, until)
        return
    for me in range(len(chat.accounts)):
        chat.write(me)
    await asyncio.sleep(until - time.perf_counter())
    chat.is_open = False
