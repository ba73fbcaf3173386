"""A call for help that alerts a whole hospital."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import orjson

from benchmarks.shapes.run import Outcome, Run, all_there
from benchmarks.tally import Faults, faults_in, percentile
from benchmarks.websocket import Account, LoadClient

ROLES = ("paramedic", "doctor", "nurse", "receptionist")
PAUSE_SECONDS = 0.5  # between the end of one emergency and the next call
COMMITTED_AT = {
    "HPlus": "SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8"
    " FROM emergency_emergency WHERE emergency_id = %s",
    "Node.js": "SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8"
    " FROM peer_emergency WHERE emergency_id = %s",
}
DATABASES = {"HPlus": "hplus", "Node.js": "peer"}


class Staff:
    """What each member of the staff has heard, and when (seconds of the wall's clock)."""

    def __init__(self, count: int) -> None:
        self.heard: list[list[tuple[str, float]]] = [[] for _ in range(count)]

    def on_frame(self, number: int, frame: bytes) -> None:
        if frame.startswith(b'{"type":"emergencyAlert"'):
            at = time.time()
            self.heard[number].append((orjson.loads(frame)["data"]["emergencyId"], at))

    def have_heard(self, count: int) -> bool:
        return all(len(heard) >= count for heard in self.heard)

    def arrivals(self, emergency_id: str) -> list[float]:
        return [at for heard in self.heard for key, at in heard if key == emergency_id]


class Caller:
    """A patient who calls once."""

    def __init__(self, account: Account, hospital_id: str) -> None:
        self.account, self.hospital_id = account, hospital_id
        self.client: LoadClient
        self.emergency_id: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_frame(self, frame: bytes) -> None:
        answer = orjson.loads(frame)
        if answer["type"] == "ack" and not self.emergency_id.done():
            self.emergency_id.set_result(answer["data"]["emergencyId"])
        elif answer["type"] == "error":
            self.emergency_id.set_exception(RuntimeError(frame.decode()))

    def call(self) -> None:
        help_wanted = {
            "patientId": self.account.user_id,
            "hospitalId": self.hospital_id,
            "location": {"lat": 37.7749, "lng": -122.4194},
            "condition": "Benchmark",
            "priority": "low",
        }
        self.client.send(orjson.dumps({"type": "emergencyRequest", "requestId": "call", "data": help_wanted}))

    def cancel(self, emergency_id: str) -> None:
        cancel = {"type": "emergencyStatusUpdate", "emergencyId": emergency_id, "status": "cancelled"}
        self.client.send(orjson.dumps(cancel))


async def to_all_staff(run: Run) -> Outcome:
    """One call after another, each by another patient; all of the staff are connected."""
    sizes = run.sizes
    roles = [ROLES[n % len(ROLES)] for n in range(sizes.staff)]
    accounts = await run.accounts(roles + ["patient"] * sizes.calls_for_help)
    staff = Staff(sizes.staff)
    hospital_id = accounts[0].hospital_id
    callers = [Caller(account, hospital_id) for account in accounts[sizes.staff :]]
    on_frames = [partial(staff.on_frame, n) for n in range(sizes.staff)]
    clients = await run.open(accounts, [*on_frames, *(caller.on_frame for caller in callers)])
    await asyncio.sleep(sizes.settle_seconds)

    waits_ms, from_call_ms, order = [], [], []
    meter = run.meter()
    for caller, client in zip(callers, clients[sizes.staff :], strict=True):
        caller.client = client
        called_at = time.time()
        caller.call()
        emergency_id = await caller.emergency_id
        order.append(emergency_id)
        await all_there(lambda: staff.have_heard(len(order)))
        committed_at = await asyncio.to_thread(_committed_at, run, emergency_id)
        arrivals = staff.arrivals(emergency_id)
        waits_ms += [1000 * (at - committed_at) for at in arrivals]
        from_call_ms += [1000 * (at - called_at) for at in arrivals]
        caller.cancel(emergency_id)
        await asyncio.sleep(PAUSE_SECONDS)
    cost = meter.stop()
    await run.close()
    figures = {
        "p50, ms from the commit": percentile(waits_ms, 50),
        "p99, ms from the commit": percentile(waits_ms, 99),
        "p99, ms from the call": percentile(from_call_ms, 99),
        **cost.per(len(order) * sizes.staff, "delivered alert"),
    }
    heard = [[key for key, _ in each] for each in staff.heard]
    return Outcome(figures, sum((faults_in(each, order) for each in heard), Faults()))


def _committed_at(run: Run, emergency_id: str) -> float:
    """When PostgreSQL committed the emergency (it shares the clock of this machine)."""
    name = run.server.name
    [[committed_at]] = run.storage.execute(DATABASES[name], COMMITTED_AT[name], [emergency_id])
    return float(committed_at)
