"""The real-time core in any order of commits, losses, stalls, crashes and reconnects: the invariants hold.

A failure prints its steps, and SIMULATION_SEED to play all of it again. `make test-faults` simulates for
SIMULATION_SECONDS, with new seeds.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis.stateful import run_state_machine_as_test

from tests.fault_report import note
from tests.simulation.faults import PLANTED
from tests.simulation.machine import Simulation

SEED = os.environ.get("SIMULATION_SEED", "")
SECONDS = float(os.environ.get("SIMULATION_SECONDS", "0"))
EXAMPLES = int(os.environ.get("SIMULATION_EXAMPLES", "30"))  # for each seed
FIRST_SEED = 1
STEPS = 40
EXPLORE = (Phase.generate,)
SHRINK = (Phase.generate, Phase.shrink)  # a failure is shown in as few steps as possible


def simulate(seed: int, examples: int = EXAMPLES, phases: tuple[Phase, ...] = SHRINK) -> list[object]:
    """Play so many examples. Raises the Violation that was found, or returns what the clients got."""
    traces: list[object] = []

    @hypothesis.seed(seed)
    class Seeded(Simulation):
        def teardown(self) -> None:
            super().teardown()
            traces.append([client.trace for client in self.world.clients])

    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=phases,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(Seeded, settings=settings)
    except Exception as found:
        found.add_note(f"SIMULATION_SEED={seed} SIMULATION_EXAMPLES={examples} plays it again")
        raise
    return traces


def seeds() -> Iterator[int]:
    """The one that was asked for; else always the same one, and new ones as long as there is time."""
    yield int(SEED or FIRST_SEED)
    until = time.monotonic() + SECONDS
    while not SEED and time.monotonic() < until:
        yield random.getrandbits(32)


@pytest.mark.faults
@pytest.mark.timeout(300 + 2 * SECONDS)
def test_invariants_hold_in_any_order_of_commits_losses_and_crashes() -> None:
    played = sum(len(simulate(seed)) for seed in seeds())
    note("simulated hubs, clients, database and channel layer", rounds=played, lost=0, duplicated=0)


@pytest.mark.parametrize("fault", PLANTED)
def test_planted_fault_is_found(fault: str) -> None:
    plant, expected = PLANTED[fault]
    with plant(), pytest.raises(expected):
        simulate(FIRST_SEED, phases=EXPLORE)


def test_a_seed_replays_exactly() -> None:
    assert simulate(FIRST_SEED, examples=3) == simulate(FIRST_SEED, examples=3)
