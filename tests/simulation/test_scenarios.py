"""What the simulation has found, each as the few steps that led to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.client import SimulatedClient
from tests.simulation.layer import Weather
from tests.simulation.world import World

LOST, FINE = Weather(loss=1, doubling=0), Weather(loss=0, doubling=0)


@pytest.fixture
def world() -> Iterator[World]:
    """Two servers; each has one of the two clients of a user."""
    world = World(seed=1)
    world.open()
    for client in devices(world):
        world.start_server()
        client.connect(world.servers[-1], with_cursor=False)
    world.clock.run_for(3)
    yield world
    world.close()


def devices(world: World) -> list[SimulatedClient]:
    return [client for client in world.clients if client.user is world.users[0]]


def move(world: World, client: SimulatedClient, server: int) -> None:
    """Close the connection, and resume on that server."""
    client.leave(1000)
    client.connect(world.servers[server], with_cursor=True)


def test_client_that_resumes_on_a_server_that_lags_gets_nothing_twice(world: World) -> None:
    first, second = devices(world)
    world.layer.weather = LOST
    world.notify(world.servers[0], {0}, count=3, size_bytes=10)
    world.clock.run_for(0.2)
    assert (first.is_complete, second.is_complete) == (True, False)
    move(world, first, server=1)
    world.clock.run_for(5)
    assert (first.is_complete, second.is_complete) == (True, True)
    world.check()


def test_client_that_resumes_while_its_last_event_arrives_gets_it_once(world: World) -> None:
    first, second = devices(world)
    world.layer.weather = Weather(loss=0, doubling=0, seconds=0.4)
    world.database.seconds = 0.3
    for _ in range(20):
        move(world, first, server=0)
        world.clock.run_for(3)
        world.notify(world.servers[0], {0}, count=1, size_bytes=10)
        world.clock.run_for(0.3)
        move(world, first, server=1)
        world.clock.run_for(3)
    assert (first.is_complete, second.is_complete) == (True, True)
    world.check()


def test_events_after_a_gap_are_kept_up_to_a_bound_and_all_arrive(world: World) -> None:
    world.layer.weather = LOST
    world.notify(world.servers[0], {0}, count=1, size_bytes=10)
    world.clock.run_for(0.2)
    world.layer.weather = FINE
    world.notify(world.servers[0], {0}, count=50, size_bytes=10)
    for _ in range(100):
        world.clock.run_for(0.01)
        world.check()
    assert all(client.is_complete for client in devices(world))
