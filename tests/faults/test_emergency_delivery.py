"""A call for help that was acknowledged is stored once and heard, whatever breaks."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.fault_report import note
from tests.faults.deployment import ROUNDS, Deployment
from tests.faults.emergency_callers import ELSEWHERE, EmergencyCallers, call_for_help
from tests.faults.reconnecting_client import wrong_clocks
from tests.waiting import until

pytestmark = pytest.mark.faults


def settle(group: EmergencyCallers, what: str, rounds: int) -> None:
    acknowledged, missing, double = group.reckoning()
    note(what, rounds=rounds, lost=missing, duplicated=double)
    assert acknowledged > 0, "nobody called"
    assert (missing, double) == (0, 0), f"of {acknowledged}: {missing} missing, {double} double"


async def test_every_call_for_help_is_alerted_although_the_server_is_killed(deployment: Deployment) -> None:
    [server] = deployment.serve()
    group = EmergencyCallers.of(deployment, 10, lambda: server.port, "called")
    async with group.connected():
        for _ in range(ROUNDS):
            async with group.calling():
                await asyncio.sleep(random.uniform(0.5, 1.0))
                server.kill()
                await asyncio.to_thread(server.start)
                await group.everyone.are_there()
                await asyncio.sleep(0.5)
            await group.all_are_heard(within_seconds=10)
        assert group.nurse.connects == 1 + ROUNDS
        settle(group, "server killed (-9), emergencies", ROUNDS)


async def kill(deployment: Deployment) -> None:
    await asyncio.to_thread(deployment.redis.kill)


async def freeze(deployment: Deployment) -> None:
    deployment.redis.freeze()


async def restart(deployment: Deployment) -> None:
    await asyncio.to_thread(deployment.redis.start)


async def thaw(deployment: Deployment) -> None:
    deployment.redis.thaw()


@pytest.mark.parametrize(("fault", "repair"), [(kill, restart), (freeze, thaw)], ids=["killed", "frozen"])
async def test_call_for_help_without_redis_is_stored_acknowledged_and_alerted(
    deployment: Deployment,
    fault: Callable[[Deployment], Awaitable[None]],
    repair: Callable[[Deployment], Awaitable[None]],
) -> None:
    """The nurse sits on another server and hears it without Redis, from the database."""
    one, other = deployment.serve(2)
    group = EmergencyCallers.of(deployment, 3, lambda: one.port, f"redis-{fault.__name__}")
    group.nurse.where = lambda: other.port
    async with group.connected():
        for number in range(ROUNDS):
            await fault(deployment)
            begun = time.monotonic()
            for caller in group.callers:
                await group.call(caller, f"{caller.user_id}.{number}")
            await group.all_are_heard(within_seconds=5)
            assert time.monotonic() - begun < 10
            await repair(deployment)
        assert {phone.connects for phone in (*group.callers, group.nurse)} == {1}, "a socket died"
        settle(group, f"emergency while Redis is {'killed' if fault is kill else 'frozen'}", ROUNDS)


async def test_wrong_client_clock_does_not_change_escalation_time(deployment: Deployment) -> None:
    """A day early, a day late, years 1 and 9999: each goes up after its two seconds on the server's clock."""
    [server] = deployment.serve(HPLUS_ESCALATION_SECONDS="critical=2,high=60,medium=120,low=300")
    clocks = wrong_clocks()
    group = EmergencyCallers.of(deployment, len(clocks), lambda: server.port, "clocks")
    async with group.connected():
        for caller, clock in zip(group.callers, clocks, strict=True):
            given = call_for_help(caller.user_id, priority="critical", timestamp=clock)
            answer = await caller.insist("emergencyRequest", caller.user_id, **given)
            caller.called[caller.user_id] = answer["data"]["emergencyId"]
        await group.all_are_heard(within_seconds=5)
        waited = (
            "SELECT extract(epoch FROM min(e.at) - min(m.requested_at))::float FROM emergency_entry e "
            "JOIN emergency_emergency m USING (emergency_id) "
            "WHERE e.kind = 'escalated' AND m.hospital_id = %s AND m.requested_by_id LIKE 'clocks.%%' "
            "GROUP BY emergency_id"
        )
        await until(lambda: len(deployment.ask(waited, ELSEWHERE)) == len(clocks))
        found = deployment.ask(waited, ELSEWHERE)
        late = [seconds for (seconds,) in found if not 2 <= seconds < 5]
        assert not late, found
        settle(group, "emergencies by wrong clocks", len(clocks))
