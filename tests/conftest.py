"""Fixtures of all tests: the demo's people, and a server to talk to."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from django.conf import settings as django_settings
from django.test import Client, TransactionTestCase
from playwright.async_api import Browser

from hplus.accounts.models import User
from hplus.management.commands.seed_demo import seed_people
from tests import fault_report
from tests.admin_site import admin_client_of
from tests.browser import chromium
from tests.servers import ThreadServer
from tests.truncate import truncate_filled_tables
from tests.waiting import PATIENCE_SECONDS

TransactionTestCase._fixture_teardown = truncate_filled_tables


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without PostgreSQL and Redis the tests that need them are skipped, and say why."""
    missing = getattr(django_settings, "SERVICES_MISSING", "")
    for item in items:
        if missing:
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture
def users(transactional_db: None) -> dict[str, User]:
    """The demo's two hospitals and their people, by userId."""
    seed_people()
    return User.objects.in_bulk()


@pytest.fixture
def admin_client(users: dict[str, User]) -> Client:
    """The admin of hospital_001 in the admin site."""
    return admin_client_of(users["admin_001"])


@pytest.fixture
def quick_reconciliation(settings: Any) -> None:
    """To be named before `server`: nobody waits two seconds for the first reconciliation."""
    settings.RECONCILE_SECONDS = 0.2


@pytest.fixture
def unhurried(settings: Any) -> None:
    """For what many do at once: how soon a request is given up is not what this test is about."""
    settings.ACTION_TIMEOUT_SECONDS = PATIENCE_SECONDS


@pytest.fixture
def server(users: dict[str, User]) -> Iterator[ThreadServer]:
    """A server for this test alone."""
    with ThreadServer() as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests of this process; each page gets a context of its own."""
    async with chromium() as opened:
        yield opened


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[Any]:
    """Report a failure without collecting garbage meanwhile.

    A task that nobody awaited formats its traceback when it is collected, which parses source; Python 3.11
    can't do that while it parses the source of the failed test, and ends the whole run.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in fault_report.table():
        terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # one of several processes (pytest-xdist)
        session.config.workeroutput["fault_report"] = fault_report.written()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    fault_report.add(getattr(node, "workeroutput", {}).get("fault_report", []))
