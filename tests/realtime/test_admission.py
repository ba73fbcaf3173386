"""After a restart everybody comes back at once: nobody is sent away, a call for help waits for nobody."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from hplus import errors
from hplus.realtime.connection.admission import Admission
from hplus.realtime.connection.admission_batch import AdmissionBatch
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


def slowly(seconds: float) -> Callable[[list[str]], list[str]]:
    def shout(texts: list[str]) -> list[str]:
        time.sleep(seconds)
        return [text.upper() for text in texts]

    return shout


async def test_commands_behind_a_flight_fly_together_and_wait_without_a_deadline(settings: Any) -> None:
    settings.ACTION_TIMEOUT_SECONDS = 0.3  # less than the last one waits
    flights: list[list[str]] = []

    def shout(texts: list[str]) -> list[str]:
        flights.append(texts)
        return slowly(0.2)(texts)

    batch = AdmissionBatch[str](shout, most=3)
    first = asyncio.create_task(batch.submit("a"))
    await asyncio.sleep(0.05)
    behind = [asyncio.create_task(batch.submit(text)) for text in "bcdef"]
    assert await asyncio.gather(first, *behind) == list("ABCDEF")
    assert flights == [["a"], ["b", "c", "d"], ["e", "f"]]


async def test_a_flight_that_fails_is_repeated_command_by_command() -> None:
    def halve(numbers: list[int]) -> list[int]:
        if any(number % 2 for number in numbers):
            raise ValueError("odd")
        return [number // 2 for number in numbers]

    batch = AdmissionBatch[int](halve)
    outcomes = await asyncio.gather(*(batch.submit(n) for n in (2, 3, 4)), return_exceptions=True)
    assert (outcomes[0], outcomes[2]) == (1, 2)
    assert isinstance(outcomes[1], ValueError)


async def test_behind_a_flight_without_an_answer_nobody_waits_longer_than_the_limit(settings: Any) -> None:
    settings.ACTION_TIMEOUT_SECONDS = 0.4
    is_frozen = threading.Event()

    def ask(texts: list[str]) -> list[str]:
        is_frozen.wait(5)
        return texts

    batch = AdmissionBatch[str](ask)

    async def refused_after(delay: float) -> float:
        await asyncio.sleep(delay)
        began_at = time.monotonic()
        with pytest.raises(errors.InternalError):
            await batch.submit(f"after {delay}")
        return time.monotonic() - began_at

    waited = await asyncio.gather(*(refused_after(number * 0.1) for number in range(8)))
    assert max(waited) < 0.8, waited
    is_frozen.set()
    assert await batch.submit("thawed") == "thawed"


async def test_one_who_has_gone_is_not_flown(settings: Any) -> None:
    flown: list[str] = []

    def note(texts: list[str]) -> list[str]:
        flown.extend(texts)
        return slowly(0.1)(texts)

    batch = AdmissionBatch[str](note)
    first, gone = (asyncio.create_task(batch.submit(text)) for text in ("first", "gone"))
    await asyncio.sleep(0)
    gone.cancel()
    assert await first == "FIRST"
    assert await batch.submit("last") == "LAST"
    assert flown == ["first", "last"]
