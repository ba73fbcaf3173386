"""After a restart everybody comes back at once: nobody is sent away, a call for help waits for nobody."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from hplus.realtime.connection.admission import Admission
from hplus.realtime.execution.db_threads import in_db_thread
from tests.emergency.guide_frames import create_emergency_request
from tests.servers import ThreadServer

ARRIVALS = 12


async def test_handshake_waiting_for_admission_never_times_out(settings: Any) -> None:
    settings.ACTION_TIMEOUT_SECONDS = 0.5  # less than the line takes, more than anybody in it
    admission = Admission()
    line = [asyncio.create_task(admission.run_queued(time.sleep, 0.2)) for _ in range(ARRIVALS)]
    await asyncio.sleep(0)
    assert await in_db_thread(lambda: "help is on its way") == "help is on its way"
    assert not all(task.done() for task in line)
    assert await asyncio.gather(*line) == [None] * ARRIVALS


async def test_simultaneous_reconnects_are_all_admitted_and_calls_for_help_first(
    server: ThreadServer,
) -> None:
    async with AsyncExitStack() as stack:
        patient = await stack.enter_async_context(server.phone("patient_123", "patient"))
        crews = [server.phone(f"crew_{number}", "paramedic", "hospital_001") for number in range(60)]
        arriving = [asyncio.create_task(stack.enter_async_context(crew)) for crew in crews]
        await patient.send("emergencyRequest", data=create_emergency_request())
        created = await patient.expect("emergencyCreated")
        await asyncio.gather(*arriving)
        for crew in crews:
            await crew.expect("emergencyAlert", emergencyId=created["emergencyId"])
            assert len(crew.heard("emergencyAlert")) == 1
