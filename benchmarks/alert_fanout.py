"""How long an emergency alert takes to reach every connected member of a hospital's staff.

    make run                                          # in another terminal, or any server in demo mode
    .venv/bin/python benchmarks/alert_fanout.py       # --url --staff --emergencies --hospital

Opens a socket for each of the staff and one for a patient, sends emergencies one after another and
takes the time from the patient's send to each arrival. Prints one JSON object; exits with 1 where an
alert is missing or the 99th percentile is a second or more. Needs the `websockets` package only. The
sockets identify themselves by the query, so the server must run in demo mode (HPLUS_DEMO=1), and with
HPLUS_MAX_SOCKETS_PER_IP=0 or more than the staff. Client and server share the machine: what the client
needs to read 200 frames is part of the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect

ROLES = ("paramedic", "doctor", "nurse", "receptionist")
PATIENCE_SECONDS = 10


async def join(stack: AsyncExitStack, url: str, **query: str) -> ClientConnection:
    """A socket that has been greeted."""
    socket = await stack.enter_async_context(connect(f"{url}?{urlencode(query)}", compression=None))
    await receive(socket, "connection_established")
    return socket


async def receive(socket: ClientConnection, type_: str, emergency_id: str = "") -> float:
    """When the frame came (monotonic seconds)."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            frame: dict[str, Any] = json.loads(await socket.recv())
            if frame["type"] == type_ and emergency_id in ("", frame.get("emergencyId")):
                return time.monotonic()


async def call(patient: ClientConnection, hospital_id: str, request_id: str) -> str:
    """Call for help; the emergencyId."""
    command = {
        "patientId": "bench_patient",
        "hospitalId": hospital_id,
        "location": {"lat": 37.7749, "lng": -122.4194},
        "condition": "Benchmark",
        "priority": "low",
    }
    await patient.send(json.dumps({"type": "emergencyRequest", "requestId": request_id, "data": command}))
    while True:
        frame = json.loads(await patient.recv())
        if frame.get("requestId") == request_id:
            return str(frame["data"]["emergencyId"])


async def one_emergency(
    patient: ClientConnection, staff: list[ClientConnection], hospital_id: str, number: int
) -> list[float | BaseException]:
    """Seconds until each of the staff had the alert, or why not."""
    began = time.monotonic()
    alerts = [asyncio.create_task(receive(socket, "emergencyAlert")) for socket in staff]
    emergency_id = await call(patient, hospital_id, f"bench-{number}")
    arrived = await asyncio.gather(*alerts, return_exceptions=True)
    cancel = {"type": "emergencyStatusUpdate", "emergencyId": emergency_id, "status": "cancelled"}
    await patient.send(json.dumps(cancel))
    await asyncio.gather(*(receive(socket, "emergencyStatusUpdate") for socket in staff))
    return [at if isinstance(at, BaseException) else at - began for at in arrived]


async def measure(url: str, hospital_id: str, count: int, emergencies: int) -> list[float | BaseException]:
    async with AsyncExitStack() as stack:
        staff = [
            await join(
                stack, url, userId=f"bench_staff_{n}", role=ROLES[n % len(ROLES)], hospitalId=hospital_id
            )
            for n in range(count)
        ]
        patient = await join(stack, url, userId="bench_patient", role="patient")
        rounds = [await one_emergency(patient, staff, hospital_id, n) for n in range(emergencies)]
        return [each for round_ in rounds for each in round_]


def percentile(ordered: list[float], percent: int) -> float:
    return round(ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)], 4)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", default="ws://localhost:5000")
    parser.add_argument("--hospital", default="hospital_002")
    parser.add_argument("--staff", type=int, default=200)
    parser.add_argument("--emergencies", type=int, default=20)
    asked = parser.parse_args()
    outcomes = asyncio.run(measure(asked.url, asked.hospital, asked.staff, asked.emergencies))
    seconds = sorted(each for each in outcomes if isinstance(each, float))
    found: dict[str, Any] = {
        "staff": asked.staff,
        "emergencies": asked.emergencies,
        "alerts": len(seconds),
        "lost": len(outcomes) - len(seconds),
    }
    if seconds:
        found |= {f"p{p}Seconds": percentile(seconds, p) for p in (50, 90, 99)}
        found["maxSeconds"] = round(seconds[-1], 4)
    sys.stdout.write(json.dumps(found) + "\n")
    return int(found["lost"] > 0 or not seconds or found["p99Seconds"] >= 1)


if __name__ == "__main__":
    sys.exit(main())
