"""A call for help that was acknowledged is stored once and heard, whatever breaks."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.faults.helpline import ELSEWHERE, Helpline, call_for_help
from tests.faults.site import ROUNDS, Site
from tests.faults.steadfast import wrong_clocks
from tests.ledger import note
from tests.waiting import until

pytestmark = pytest.mark.faults


def settle(helpline: Helpline, what: str, rounds: int) -> None:
    acknowledged, missing, double = helpline.reckoning()
    note(what, rounds=rounds, lost=missing, duplicated=double)
    assert acknowledged > 0, "nobody called"
    assert (missing, double) == (0, 0), f"of {acknowledged}: {missing} missing, {double} double"


async def test_every_call_is_heard_although_the_server_is_killed(site: Site) -> None:
    [server] = site.serve()
    helpline = Helpline.of(site, 10, lambda: server.port, "called")
    async with helpline.connected():
        for _ in range(ROUNDS):
            async with helpline.calling():
                await asyncio.sleep(random.uniform(0.5, 1.0))
                server.kill()
                await asyncio.to_thread(server.start)
                await helpline.everyone.are_there()
                await asyncio.sleep(0.5)
            await helpline.all_are_heard(within_seconds=10)
        assert helpline.nurse.connects == 1 + ROUNDS
        settle(helpline, "server killed (-9), emergencies", ROUNDS)


async def kill(site: Site) -> None:
    await asyncio.to_thread(site.redis.kill)


async def freeze(site: Site) -> None:
    site.redis.freeze()


async def restart(site: Site) -> None:
    await asyncio.to_thread(site.redis.start)


async def thaw(site: Site) -> None:
    site.redis.thaw()


@pytest.mark.parametrize(("fault", "repair"), [(kill, restart), (freeze, thaw)], ids=["killed", "frozen"])
async def test_a_call_while_redis_is_away_is_stored_acknowledged_and_heard(
    site: Site, fault: Callable[[Site], Awaitable[None]], repair: Callable[[Site], Awaitable[None]]
) -> None:
    """The nurse sits on another server and hears it without Redis, from the database."""
    one, other = site.serve(2)
    helpline = Helpline.of(site, 3, lambda: one.port, f"redis-{fault.__name__}")
    helpline.nurse.where = lambda: other.port
    async with helpline.connected():
        for number in range(ROUNDS):
            await fault(site)
            begun = time.monotonic()
            for caller in helpline.callers:
                await helpline.call(caller, f"{caller.user_id}.{number}")
            await helpline.all_are_heard(within_seconds=5)
            assert time.monotonic() - begun < 10
            await repair(site)
        assert {phone.connects for phone in (*helpline.callers, helpline.nurse)} == {1}, "a socket died"
        settle(helpline, f"emergency while Redis is {'killed' if fault is kill else 'frozen'}", ROUNDS)


async def test_a_wrong_clock_neither_hastens_nor_delays_the_escalation(site: Site) -> None:
    """A day early, a day late, years 1 and 9999: each goes up after its two seconds on the server's clock."""
    [server] = site.serve(HPLUS_ESCALATION_SECONDS="critical=2,high=60,medium=120,low=300")
    clocks = wrong_clocks()
    helpline = Helpline.of(site, len(clocks), lambda: server.port, "clocks")
    async with helpline.connected():
        for caller, clock in zip(helpline.callers, clocks, strict=True):
            given = call_for_help(caller.user_id, priority="critical", timestamp=clock)
            answer = await caller.insist("emergencyRequest", caller.user_id, **given)
            caller.called[caller.user_id] = answer["data"]["emergencyId"]
        await helpline.all_are_heard(within_seconds=5)
        waited = (
            "SELECT extract(epoch FROM min(e.at) - min(m.requested_at))::float FROM emergency_entry e "
            "JOIN emergency_emergency m USING (emergency_id) "
            "WHERE e.kind = 'escalated' AND m.hospital_id = %s AND m.requested_by_id LIKE 'clocks.%%' "
            "GROUP BY emergency_id"
        )
        await until(lambda: len(site.ask(waited, ELSEWHERE)) == len(clocks))
        found = site.ask(waited, ELSEWHERE)
        late = [seconds for (seconds,) in found if not 2 <= seconds < 5]
        assert not late, found
        settle(helpline, "emergencies by wrong clocks", len(clocks))
