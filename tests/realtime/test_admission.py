"""After a restart everybody comes back at once: nobody is sent away, a call for help waits for nobody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from hplus import errors
from hplus.accounts.models import Role, User
from hplus.realtime.connection import admission_batch
from hplus.realtime.connection.admission import Admission
from hplus.realtime.connection.admission_batch import AdmissionBatch
from hplus.realtime.execution.db_threads import Deadline, in_db_thread
from tests.emergency.guide_frames import create_emergency_request
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS, until

ARRIVALS = 12


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What threads of a test wait for. It opens in the end, so that a failed test occupies no thread."""
    opened = threading.Event()
    yield opened
    opened.set()


async def test_handshake_waiting_for_admission_never_times_out(settings: Any, gate: threading.Event) -> None:
    """An action that came later is given up first, and another one is not kept waiting."""
    settings.ACTION_TIMEOUT_SECONDS = PATIENCE_SECONDS
    admission = Admission()
    async with asyncio.TaskGroup() as line:

        def arrive(count: int) -> list[asyncio.Task[bool]]:
            return [line.create_task(admission.run_queued(gate.wait)) for _ in range(count)]

        started = arrive(settings.ADMISSION_THREADS)
        await asyncio.sleep(0)
        settings.ACTION_TIMEOUT_SECONDS = 0.1
        waiting = arrive(ARRIVALS)
        await asyncio.sleep(0)
        with pytest.raises(errors.InternalError):
            await in_db_thread(gate.wait)
        settings.ACTION_TIMEOUT_SECONDS = PATIENCE_SECONDS
        assert await in_db_thread(lambda: "help is on its way") == "help is on its way"
        assert not any(task.done() for task in (*started, *waiting))
        gate.set()
    assert all(task.result() for task in (*started, *waiting))


async def test_who_waited_for_minutes_is_served_unless_the_one_before_got_no_answer(settings: Any) -> None:
    settings.ACTION_TIMEOUT_SECONDS = PATIENCE_SECONDS
    deadline, minutes_ago = Deadline(), asyncio.get_running_loop().time() - 10 * PATIENCE_SECONDS
    assert await deadline.run(minutes_ago, in_db_thread, lambda: "served") == "served"
    deadline.is_stuck = True
    with pytest.raises(errors.InternalError):
        await deadline.run(minutes_ago, in_db_thread, lambda: "served")


async def test_simultaneous_reconnects_are_all_admitted_and_calls_for_help_first(
    unhurried: None, server: ThreadServer
) -> None:
    names = [f"crew_{number}" for number in range(60)]
    await User.objects.abulk_create(
        User(user_id=name, role=Role.PARAMEDIC, hospital_id="hospital_001") for name in names
    )
    async with AsyncExitStack() as stack:
        patient = await stack.enter_async_context(server.phone("patient_123", "patient"))
        crews = [server.phone(name, "paramedic", "hospital_001") for name in names]
        async with asyncio.TaskGroup() as arriving:
            for crew in crews:
                arriving.create_task(stack.enter_async_context(crew))
            await patient.send("emergencyRequest", data=create_emergency_request())
            created = await patient.expect("emergencyCreated")
        for crew in crews:
            await crew.expect("emergencyAlert", emergencyId=created["emergencyId"])
            assert len(crew.heard("emergencyAlert")) == 1


class HeldFlights:
    """An action that answers in capitals, once it may; it notes what came in each flight."""

    def __init__(self, gate: threading.Event) -> None:
        self.flights: list[list[str]] = []
        self.may_land = gate

    def __call__(self, texts: list[str]) -> list[str]:
        self.flights.append(texts)
        assert self.may_land.wait(PATIENCE_SECONDS)
        return [text.upper() for text in texts]


async def test_commands_waiting_for_a_batch_share_the_next_one_without_a_deadline(
    settings: Any, monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    settings.ACTION_TIMEOUT_SECONDS = PATIENCE_SECONDS
    monkeypatch.setattr(admission_batch, "FLIGHT_SECONDS", PATIENCE_SECONDS)
    held = HeldFlights(gate)
    batch = AdmissionBatch[str](held, most=3)
    async with asyncio.TaskGroup() as line:
        first = line.create_task(batch.submit("a"))
        await until(lambda: held.flights == [["a"]])
        behind = [line.create_task(batch.submit(text)) for text in "bcdef"]
        await asyncio.sleep(0)
        for waiting in batch._waiting:
            waiting.came_at -= 10 * PATIENCE_SECONDS  # as if the flight took minutes
        held.may_land.set()
    assert [task.result() for task in (first, *behind)] == list("ABCDEF")
    assert held.flights == [["a"], ["b", "c", "d"], ["e", "f"]]


async def test_failed_batch_is_repeated_command_by_command() -> None:
    def halve(numbers: list[int]) -> list[int]:
        if any(number % 2 for number in numbers):
            raise ValueError("odd")
        return [number // 2 for number in numbers]

    batch = AdmissionBatch[int](halve)
    outcomes = await asyncio.gather(*(batch.submit(n) for n in (2, 3, 4)), return_exceptions=True)
    assert (outcomes[0], outcomes[2]) == (1, 2)
    assert isinstance(outcomes[1], ValueError)


async def test_unanswered_batch_holds_up_the_next_one_until_the_limit_only(
    settings: Any, gate: threading.Event
) -> None:
    """One after another as they came, each after its own limit, not after those of all before it."""
    settings.ACTION_TIMEOUT_SECONDS = 0.4
    held = HeldFlights(gate)
    batch = AdmissionBatch[str](held)
    now = asyncio.get_running_loop().time

    async def waits_until_refused(number: int) -> float:
        began_at = now()
        with pytest.raises(errors.InternalError):
            await batch.submit(str(number))
        return now() - began_at

    waiting = []
    async with asyncio.TaskGroup() as line:
        for number in range(8):
            waiting.append(line.create_task(waits_until_refused(number)))
            await asyncio.sleep(0.1)
    waited = [task.result() for task in waiting]
    assert max(waited) < 2 * min(waited), waited
    assert len(held.flights) < len(waited)
    held.may_land.set()
    assert await batch.submit("thawed") == "THAWED"


async def test_client_that_left_is_not_in_the_batch(gate: threading.Event) -> None:
    held = HeldFlights(gate)
    batch = AdmissionBatch[str](held)
    first, gone = (asyncio.create_task(batch.submit(text)) for text in ("first", "gone"))
    await asyncio.sleep(0)
    gone.cancel()
    held.may_land.set()
    assert await first == "FIRST"
    assert await batch.submit("last") == "LAST"
    assert held.flights == [["first"], ["last"]]
