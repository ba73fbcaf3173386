"""Connections that come and go, that come back all at once, and that do nothing."""

from __future__ import annotations

import asyncio
import time

import orjson

from benchmarks.shapes.run import OPENING_AT_ONCE, Outcome, Run, all_there
from benchmarks.tally import Faults, faults_in
from benchmarks.websocket import Account, LoadClient, ignore, open_client

ROLES = ("doctor", "patient")
WARM_UP = 20  # connections that a new server has seen before its memory is read


async def come_and_go(run: Run) -> Outcome:
    """Connect, be greeted and leave, some at the same time."""
    accounts = await run.accounts([ROLES[n % 2] for n in range(run.sizes.comers)], hospitals=10)
    gate = asyncio.Semaphore(OPENING_AT_ONCE)

    async def one(account: Account) -> None:
        async with gate:
            client = await open_client(run.server.port, account, ignore)
            await client.close()

    began_at, meter = time.perf_counter(), run.meter()
    await asyncio.gather(*map(one, accounts))
    seconds = time.perf_counter() - began_at
    await asyncio.sleep(run.sizes.settle_seconds)  # departures are written behind
    cost = meter.stop()
    figures = {"connections a second": len(accounts) / seconds, **cost.per(len(accounts), "connection")}
    return Outcome(figures)


class Phone:
    """Who was connected before the restart, and has missed messages since its cursor."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.cursor: dict[str, str] = {}
        self.missed: list[str] = []
        self.heard: list[str] = []

    def on_frame(self, frame: bytes) -> None:
        if frame.startswith(b'{"type":"newMessage"'):
            self.heard.append(orjson.loads(frame)["data"]["message"])

    def is_complete(self) -> bool:
        return len(self.heard) >= len(self.missed)


async def restart(run: Run) -> Outcome:
    """All phones come back at once after a restart, each with its cursor and with messages it has missed.

    The peer keeps nothing for them: there they have only to be greeted.
    """
    accounts = await run.accounts([ROLES[n % 2] for n in range(run.sizes.phones)], hospitals=10)
    phones = [Phone(account) for account in accounts]
    await _write_unheard(run, phones)
    await asyncio.to_thread(_restart, run)
    has_replay = bool(phones[0].cursor)

    async def one(phone: Phone) -> None:
        run.clients.append(await open_client(run.server.port, phone.account, phone.on_frame, **phone.cursor))

    began_at, meter = time.perf_counter(), run.meter()
    await asyncio.gather(*map(one, phones))
    if has_replay:
        await all_there(lambda: all(phone.is_complete() for phone in phones))
    seconds, cost = time.perf_counter() - began_at, meter.stop()
    await asyncio.sleep(run.sizes.settle_seconds)  # for what comes twice
    await run.close()
    figures = {"seconds until all are back": seconds, **cost.per(len(phones), "phone")}
    faults = sum((faults_in(phone.heard, phone.missed) for phone in phones), Faults())
    return Outcome(figures, faults if has_replay else None)


async def _write_unheard(run: Run, phones: list[Phone]) -> None:
    """Connect all, keep each cursor, and write to each what it will have missed."""
    clients = await run.open([phone.account for phone in phones], [ignore] * len(phones))
    for phone, client in zip(phones, clients, strict=True):
        greeting = client.established.result()
        if "epoch" in greeting:
            phone.cursor = {"since": str(greeting["lastSeq"]), "epoch": str(greeting["epoch"])}
    for client in clients[1::2]:
        client.vanish()
    gate = asyncio.Semaphore(OPENING_AT_ONCE)

    async def write(number: int) -> None:
        async with gate:
            await _write_to_both(run, clients[number], *phones[number : number + 2])

    await asyncio.gather(*map(write, range(0, len(phones), 2)))
    for client in clients[::2]:
        client.vanish()
    run.clients.clear()


async def _write_to_both(run: Run, client: LoadClient, sender: Phone, receiver: Phone) -> None:
    """Write what both will have missed, and wait until it has come back to the sender: it is stored then."""
    echoes = Phone(sender.account)
    client.on_frame = echoes.on_frame
    echoes.missed = [f"Message {number}" for number in range(run.sizes.missed_messages)]
    for text in echoes.missed:
        client.send(_message(text, receiver.account))
    if not await all_there(echoes.is_complete):
        raise RuntimeError(f"{run.server.name} has not stored what the phones were to miss.")
    sender.missed = receiver.missed = echoes.missed


def _message(text: str, to: Account) -> bytes:
    frame = {
        "type": "sendMessage",
        "receiverId": to.user_id,
        "hospitalId": to.hospital_id,
        "message": text,
        "messageType": "text",
        "timestamp": "2026-01-01T08:00:00.000000",
    }
    return orjson.dumps(frame)


def _restart(run: Run) -> None:
    run.server.stop()
    run.server.start()


async def idle(run: Run) -> Outcome:
    """A new server without connections, and with many that do nothing."""
    await asyncio.to_thread(_restart, run)
    accounts = await run.accounts([ROLES[n % 2] for n in range(run.sizes.idle_connections)], hospitals=50)
    await run.open(accounts[:WARM_UP], [ignore] * WARM_UP)
    await run.close()
    await asyncio.sleep(run.sizes.settle_seconds)
    empty_percent = await _share_of_a_core(run)
    before_kib = run.server.memory_kib()
    await run.open(accounts, [ignore] * len(accounts))
    full_percent = await _share_of_a_core(run)
    kib = (run.server.memory_kib() - before_kib) / len(accounts)
    open_count = sum(not client.closed.done() for client in run.clients)
    await run.close()
    figures = {
        "memory, KiB a connection": kib,
        "% of a core without connections": empty_percent,
        f"% of a core with {len(accounts):,} connections": full_percent,
    }
    return Outcome(figures, Faults(lost=len(accounts) - open_count))


async def _share_of_a_core(run: Run) -> float:
    meter = run.meter()
    await asyncio.sleep(run.sizes.idle_seconds)
    cost = meter.stop()
    return 100 * cost.server_seconds / cost.wall_seconds
