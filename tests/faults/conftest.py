"""A hospital of its own for the faults: PostgreSQL, Redis and servers that a test may break."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.site import ROUNDS, Site
from tests.faults.test_soak import SOAK_SECONDS
from tests.services import ServiceUnavailable


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """More rounds take longer."""
    for item in items:
        if item.get_closest_marker("faults"):
            item.add_marker(pytest.mark.timeout(120 * ROUNDS + 2 * SOAK_SECONDS))


@pytest.fixture(scope="session")
def built_site() -> Iterator[Site]:
    try:
        site = Site()
    except ServiceUnavailable as unavailable:
        pytest.skip(str(unavailable))
    with site:
        yield site


@pytest.fixture
def site(built_site: Site) -> Iterator[Site]:
    """Everything runs when a test begins, and again when it is over."""
    yield built_site
    built_site.repair()
