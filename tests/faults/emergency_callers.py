"""Patients who call for help until somebody says that it is known, and a nurse who has to hear each call."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from tests.faults.deployment import Deployment
from tests.faults.reconnecting_client import ClientPairs, ReconnectingClient, Where, end

ELSEWHERE = "hospital_002"  # so that no alert comes to the crowds of the other tests


def call_for_help(patient_id: str, **more: Any) -> dict[str, Any]:
    return {
        "patientId": patient_id,
        "hospitalId": ELSEWHERE,
        "location": {"lat": 37.77, "lng": -122.42},
        "condition": "Chest pain",
        "priority": "low",  # so that none escalates meanwhile
        **more,
    }


@dataclass
class EmergencyCallers:
    deployment: Deployment
    callers: list[ReconnectingClient]
    nurse: ReconnectingClient

    @classmethod
    def of(cls, deployment: Deployment, callers: int, where: Where, name: str) -> EmergencyCallers:
        patients = [
            ReconnectingClient(where, f"{name}.caller.{number}", "patient") for number in range(callers)
        ]
        return cls(
            deployment, patients, ReconnectingClient(where, f"{name}.nurse", "nurse", hospital_id=ELSEWHERE)
        )

    @property
    def everyone(self) -> ClientPairs:
        return ClientPairs(self.deployment, [*self.callers, self.nurse])

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        async with self.everyone.connected():
            yield
        self.deployment.tell(
            "UPDATE emergency_emergency SET status = 'cancelled', cancelled_at = now(), escalate_at = NULL "
            "WHERE status = 'pending' AND hospital_id = %s",
            ELSEWHERE,
        )

    @contextlib.asynccontextmanager
    async def calling(self, pause_seconds: float = 0.2) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._keep_calling(caller, pause_seconds)) for caller in self.callers]
        try:
            yield
        finally:
            await end(tasks)

    async def _keep_calling(self, caller: ReconnectingClient, pause_seconds: float) -> None:
        for number in itertools.count(len(caller.called)):
            await self.call(caller, f"{caller.user_id}.{number}")
            await asyncio.sleep(pause_seconds)

    async def call(self, caller: ReconnectingClient, once: str) -> str:
        """The emergencyId of a call that has been acknowledged."""
        answer = await caller.insist("emergencyRequest", once, **call_for_help(once))
        caller.called[once] = answer["data"]["emergencyId"]
        return caller.called[once]

    async def all_are_heard(self, within_seconds: float) -> None:
        async with asyncio.timeout(within_seconds):
            for caller in self.callers:
                for emergency_id in tuple(caller.called.values()):
                    await self.nurse.has_heard(emergency_id)

    def reckoning(self) -> tuple[int, int, int]:
        """How many calls were acknowledged, are missing (in the database or with the nurse), are double."""
        names = {caller.user_id for caller in self.callers}
        rows = self.deployment.ask(
            "SELECT emergency_id, client_message_id, requested_by_id FROM emergency_emergency"
        )
        stored = Counter(once for _, once, caller in rows if caller in names)
        ids = {emergency_id for emergency_id, _, _ in rows}
        called = {once: pk for caller in self.callers for once, pk in caller.called.items()}
        missing = [once for once, pk in called.items() if pk not in ids or pk not in self.nurse.words_heard]
        alerts = Counter(frame["data"]["emergencyId"] for frame in self.nurse.alerts)
        double = [n for counted in (stored, alerts) for n in counted.values() if n > 1]
        return len(called), len(missing), len(double)
