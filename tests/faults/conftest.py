"""A hospital of its own for the faults: PostgreSQL, Redis and servers that a test may break."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.site import Site
from tests.services import ServiceUnavailable


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
