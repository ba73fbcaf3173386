"""Patients who repeat a call for help until it is acknowledged, and a nurse who must get each alert."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from tests.faults.deployment import Deployment
from tests.faults.reconnecting_client import ChoosePort, ClientPairs, ReconnectingClient, end
from tests.waiting import until

ELSEWHERE = "hospital_002"  # the clients of the other tests get no alert from there


def call_for_help(patient_id: str, **more: Any) -> dict[str, Any]:
    return {
        "patientId": patient_id,
        "hospitalId": ELSEWHERE,
        "location": {"lat": 37.77, "lng": -122.42},
        "condition": "Chest pain",
        "priority": "low",  # escalates after the test
        **more,
    }


@dataclass
class EmergencyCallers:
    deployment: Deployment
    callers: list[ReconnectingClient]
    nurse: ReconnectingClient

    def __post_init__(self) -> None:
        self.clients = ClientPairs(self.deployment, [*self.callers, self.nurse])

    @classmethod
    def of(cls, deployment: Deployment, callers: int, choose_port: ChoosePort, name: str) -> EmergencyCallers:
        patients = [
            ReconnectingClient(choose_port, f"{name}.caller.{number}", "patient") for number in range(callers)
        ]
        nurse = ReconnectingClient(choose_port, f"{name}.nurse", "nurse", hospital_id=ELSEWHERE)
        return cls(deployment, patients, nurse)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        async with self.clients.connected():
            yield
        self.deployment.execute(
            "UPDATE emergency_emergency SET status = 'cancelled', cancelled_at = now(), escalate_at = NULL "
            "WHERE status = 'pending' AND hospital_id = %s",
            ELSEWHERE,
        )

    @contextlib.asynccontextmanager
    async def calling(self, pause_seconds: float = 0.2) -> AsyncIterator[None]:
        """While the block runs all of them call for help."""
        tasks = [asyncio.create_task(self._keep_calling(caller, pause_seconds)) for caller in self.callers]
        try:
            yield
        finally:
            await end(tasks)

    async def _keep_calling(self, caller: ReconnectingClient, pause_seconds: float) -> None:
        for number in itertools.count(len(caller.emergency_ids)):
            await self.call(caller, f"{caller.user_id}.{number}")
            await asyncio.sleep(pause_seconds)

    async def call(self, caller: ReconnectingClient, client_message_id: str, **more: Any) -> None:
        """Call for help, until that is acknowledged."""
        fields = call_for_help(client_message_id, **more)
        ack = await caller.send_until_acknowledged("emergencyRequest", client_message_id, **fields)
        caller.emergency_ids[client_message_id] = ack["data"]["emergencyId"]

    async def called(self, count: int) -> None:
        """Wait for so many more acknowledged calls of each caller."""
        enough = {caller.user_id: len(caller.emergency_ids) + count for caller in self.callers}
        await until(lambda: all(len(one.emergency_ids) >= enough[one.user_id] for one in self.callers))

    async def all_alerted(self) -> None:
        """The nurse gets each alert."""
        for caller in self.callers:
            for emergency_id in tuple(caller.emergency_ids.values()):
                await self.nurse.receives(emergency_id)

    def report(self) -> tuple[int, int, int]:
        """How many calls were acknowledged, miss in the database or with the nurse, are duplicates."""
        names = {caller.user_id for caller in self.callers}
        rows = self.deployment.query(
            "SELECT emergency_id, client_message_id, requested_by_id FROM emergency_emergency"
        )
        added = self.deployment.query("SELECT client_message_id, requested_by_id FROM emergency_repeatedcall")
        stored = Counter(client_message_id for _, client_message_id, caller in rows if caller in names)
        stored.update(client_message_id for client_message_id, caller in added if caller in names)
        ids = {emergency_id for emergency_id, _, _ in rows}
        called = {key: pk for caller in self.callers for key, pk in caller.emergency_ids.items()}
        missing = [
            key
            for key, pk in called.items()
            if key not in stored or pk not in ids or pk not in self.nurse.received
        ]
        alerts = Counter(frame["data"]["emergencyId"] for frame in self.nurse.alerts)
        duplicates = [n for counted in (stored, alerts) for n in counted.values() if n > 1]
        return len(called), len(missing), len(duplicates)
