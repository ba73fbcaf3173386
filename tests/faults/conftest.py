"""A deployment for the fault tests: PostgreSQL, Redis and servers that a test may break."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.deployment import ROUNDS, Deployment
from tests.faults.test_soak import SOAK_SECONDS
from tests.services import ServiceUnavailable


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """More rounds take longer."""
    for item in items:
        if item.get_closest_marker("faults"):
            item.add_marker(pytest.mark.timeout(600 * ROUNDS + 2 * SOAK_SECONDS))


@pytest.fixture(scope="session")
def built_deployment() -> Iterator[Deployment]:
    try:
        deployment = Deployment()
    except ServiceUnavailable as unavailable:
        pytest.skip(str(unavailable))
    with deployment:
        yield deployment


@pytest.fixture
def deployment(built_deployment: Deployment) -> Iterator[Deployment]:
    """All of it runs when a test begins, and is repaired when the test is over."""
    yield built_deployment
    built_deployment.repair()
