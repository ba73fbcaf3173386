"""A call for help that was acknowledged is stored once and alerted, whatever breaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from tests.fault_report import note
from tests.faults.deployment import ROUNDS, Deployment
from tests.faults.emergency_callers import EmergencyCallers
from tests.faults.reconnecting_client import wrong_clocks
from tests.waiting import until

pytestmark = pytest.mark.faults


def report(group: EmergencyCallers, what: str, rounds: int) -> None:
    acknowledged, missing, duplicated = group.report()
    note(what, rounds=rounds, lost=missing, duplicated=duplicated)
    assert acknowledged > 0, "nobody called"
    assert (missing, duplicated) == (0, 0), f"of {acknowledged}: {missing} missing, {duplicated} twice"


async def test_every_call_for_help_is_alerted_although_the_server_is_killed(deployment: Deployment) -> None:
    [server] = deployment.serve()
    group = EmergencyCallers.of(deployment, 10, lambda: server.port, "called")
    async with group.connected():
        for _ in range(ROUNDS):
            async with group.calling():
                await group.called(random.randint(1, 3))
                server.kill()
                await asyncio.to_thread(server.start)
                await group.clients.all_connected()
                await group.called(1)
            await group.all_alerted()
        assert group.nurse.connects == 1 + ROUNDS
        report(group, "server killed (-9), emergencies", ROUNDS)


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
    """The nurse is on another server and gets the alert from the database, without Redis."""
    one, other = deployment.serve(2)
    group = EmergencyCallers.of(deployment, 3, lambda: one.port, f"redis-{fault.__name__}")
    group.nurse.choose_port = lambda: other.port
    async with group.connected():
        for number in range(ROUNDS):
            await fault(deployment)
            for caller in group.callers:
                await group.call(caller, f"{caller.user_id}.{number}")
            await group.all_alerted()
            await repair(deployment)
        assert {client.connects for client in group.clients.clients} == {1}, "a socket died"
        report(group, f"emergency while Redis is {'killed' if fault is kill else 'frozen'}", ROUNDS)


async def test_wrong_client_clock_does_not_change_escalation_time(deployment: Deployment) -> None:
    """A day early, a day late, years 1 and 9999: each escalates two seconds after it arrived.

    That is before the last caller's, who has no clock at all, escalates for the second time.
    """
    [server] = deployment.serve(HPLUS_ESCALATION_SECONDS="critical=2,high=60,medium=120,low=300")
    clocks = wrong_clocks()
    group = EmergencyCallers.of(deployment, len(clocks) + 1, lambda: server.port, "clocks")
    last = group.callers[-1]
    async with group.connected():
        for caller, clock in zip(group.callers, clocks, strict=False):
            await group.call(caller, caller.user_id, priority="critical", timestamp=clock)
        await group.call(last, last.user_id, priority="critical")
        await group.all_alerted()
        escalated = (
            "SELECT extract(epoch FROM e.at - m.requested_at)::float, e.at FROM emergency_entry e "
            "JOIN emergency_emergency m USING (emergency_id) "
            "WHERE e.kind = 'escalated' AND m.requested_by_id = %s ORDER BY e.at"
        )
        await until(lambda: len(deployment.query(escalated, last.user_id)) >= 2)
        _, (_, second_at), *_ = deployment.query(escalated, last.user_id)
        for caller in group.callers:
            (waited_seconds, at), *_ = deployment.query(escalated, caller.user_id)
            assert waited_seconds >= 2, caller.user_id
            assert at < second_at, caller.user_id
        report(group, "emergencies by wrong clocks", len(clocks))
