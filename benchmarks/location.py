"""Paramedics who send a position a second, and watchers with a map: what arrives, and how old it is.

    python manage.py serve  # in demo mode, on PostgreSQL
    python benchmarks/location.py --paramedics 500 --hospitals 50 --watchers 50 --seconds 30

Run it with the server's environment: it makes the hospitals in that database and counts its
transactions. The watchers ask for the positions of their hospital, so the server delivers watchers /
hospitals copies of each position; the paramedics get none.
Ages are true where this and the server share a clock, as on one machine. A position that is
overtaken by the next one of the same crew before it is seen is not shown, and that is meant so;
exit status 1 if more than one in a hundred is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import django
from websockets.asyncio.client import ClientConnection, connect

AGES_EVERY = 7  # reading the age of every frame would measure this program
SETTLING_SECONDS = 5


class Watcher:
    """Counts what arrives, and how old every so manieth is."""

    def __init__(self) -> None:
        self.count = 0
        self.ages_seconds: list[float] = []

    async def watch(self, socket: ClientConnection) -> None:
        async for frame in socket:
            if not str(frame).startswith('{"type":"locationUpdate"'):
                continue
            self.count += 1
            if self.count % AGES_EVERY == 0:
                said_at = json.loads(frame)["data"]["location"]["timestamp"]
                self.ages_seconds.append(time.time() - datetime.fromisoformat(said_at).timestamp())


async def open_sockets(url: str, role: str, count: int, hospitals: int) -> list[ClientConnection]:
    """A few at a time, as a server that restarts would see them."""
    gate = asyncio.Semaphore(20)

    async def one(number: int) -> ClientConnection:
        async with gate:
            hospital = hospital_id(number % hospitals)
            who = f"userId=bench_{hospitals}_{role}_{number}&role={role}&hospitalId={hospital}"
            socket = await connect(f"{url}/?{who}", compression=None, open_timeout=60, max_queue=1024)
            await socket.recv()
            if role == "nurse":
                await socket.send('{"type":"watchLocations","on":true}')
            return socket

    return list(await asyncio.gather(*(one(number) for number in range(count))))


async def drive(socket: ClientConnection, number: int, count: int, seconds: int) -> None:
    """A position a second, spread over the second so that they do not come as one wave."""
    began_at = asyncio.get_running_loop().time() + number / count
    for step in range(seconds):
        await asyncio.sleep(began_at + step - asyncio.get_running_loop().time())
        location = {
            "lat": 37.7 + number / 10_000 + step / 100_000,
            "lng": -122.4,
            "accuracy": 5.0,
            "speed": 9.0,
            "heading": 0.0,
            "timestamp": datetime.now(UTC).isoformat(),
        }
        await socket.send(json.dumps({"type": "locationUpdate", "data": {"location": location}}))


async def drain(socket: ClientConnection) -> None:
    async for _ in socket:
        pass


def hospital_id(number: int) -> str:
    return f"bench_{number}"


def make_hospitals(count: int) -> None:
    from hplus.accounts.models import Hospital

    hospitals = [Hospital(pk=hospital_id(n), name=f"Benchmark {n}") for n in range(count)]
    Hospital.objects.bulk_create(hospitals, ignore_conflicts=True)


def committed() -> int:
    """Transactions so far, as PostgreSQL counts them; 0 on SQLite, which does not."""
    from django.db import connection

    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


async def main(asked: argparse.Namespace) -> int:
    await asyncio.to_thread(make_hospitals, asked.hospitals)
    watchers = [Watcher() for _ in range(asked.watchers)]
    maps = await open_sockets(asked.url, "nurse", asked.watchers, asked.hospitals)
    crews = await open_sockets(asked.url, "paramedic", asked.paramedics, asked.hospitals)
    tasks = [asyncio.create_task(w.watch(s)) for w, s in zip(watchers, maps, strict=True)]
    tasks += [asyncio.create_task(drain(socket)) for socket in crews]
    await asyncio.sleep(SETTLING_SECONDS)
    at_rest = await asyncio.to_thread(committed)
    await asyncio.sleep(SETTLING_SECONDS)
    before, cpu = await asyncio.to_thread(committed), time.process_time()
    await asyncio.gather(
        *(drive(socket, number, asked.paramedics, asked.seconds) for number, socket in enumerate(crews))
    )
    after = await asyncio.to_thread(committed)
    await asyncio.sleep(SETTLING_SECONDS)
    expected = asked.seconds * sum(
        crew % asked.hospitals == watcher % asked.hospitals
        for crew in range(asked.paramedics)
        for watcher in range(asked.watchers)
    )
    delivered = sum(watcher.count for watcher in watchers)
    ages = [age for watcher in watchers for age in watcher.ages_seconds]
    report = {
        "sent": asked.paramedics * asked.seconds,
        "asked": expected,
        "delivered": delivered,
        "ageSeconds": {"p50": round(percentile(ages, 0.5), 3), "p99": round(percentile(ages, 0.99), 3)},
        "transactionsPerSecond": {
            "atRest": round((before - at_rest) / SETTLING_SECONDS, 1),
            "underLoad": round((after - before) / asked.seconds, 1),
        },
        "generatorCpuShare": round((time.process_time() - cpu) / (asked.seconds + SETTLING_SECONDS), 2),
    }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*(socket.close() for socket in (*maps, *crews)))
    return 0 if delivered >= 0.99 * expected else 1


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hplus.settings")
    django.setup()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", default="ws://127.0.0.1:5000")
    parser.add_argument("--paramedics", type=int, default=500)
    parser.add_argument("--hospitals", type=int, default=50)
    parser.add_argument("--watchers", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=30)
    sys.exit(asyncio.run(main(parser.parse_args())))
