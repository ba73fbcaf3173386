"""In production nobody is let in without TLS, and only a trusted proxy is believed that there was TLS."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest

from tests.phone import Phone
from tests.servers import ProcessServer
from tests.waiting import PATIENCE_SECONDS

PRODUCTION = {
    "DEBUG": "0",
    "HPLUS_DEMO": "0",
    "SECRET_KEY": "3xq8Zr5vKd0LwTn7YbGh2sPfJm9cUa4eRi6oQy1t3xq8Zr5vKd0L",
    "ALLOWED_HOSTS": "127.0.0.1",
    "DJANGO_SETTINGS_MODULE": "hplus.settings",
}
OVER_TLS, WITHOUT = {"X-Forwarded-Proto": "https"}, {"X-Forwarded-Proto": "http"}
REFUSED = "HPlus is reached by wss:// only."
NO_TOKEN = "The token is unknown."


@pytest.fixture(params=[{}, {"FORWARDED_ALLOW_IPS": "192.0.2.1"}, {"HPLUS_REQUIRE_TLS": "0"}], ids=str)
def given(request: pytest.FixtureRequest) -> dict[str, str]:
    return dict(request.param)


@pytest.fixture
def production(users: object, given: dict[str, str]) -> Iterator[ProcessServer]:
    server = ProcessServer(None, "--no-worker", **(PRODUCTION | given))
    with server:
        yield server


async def said_to(server: ProcessServer, headers: dict[str, str]) -> str:
    phone = Phone(server.socket_url, headers, userId="patient_123", role="patient", token="guess")
    await phone.open()
    refusal = await phone.expect_error("AUTHENTICATION_FAILED")
    assert await phone.expect_close() == 4001
    return str(refusal["message"])


async def test_handshake_and_page_without_tls_are_refused(
    production: ProcessServer, given: dict[str, str]
) -> None:
    is_required = "HPLUS_REQUIRE_TLS" not in given
    is_believed = "FORWARDED_ALLOW_IPS" not in given
    plain, behind_proxy = await said_to(production, WITHOUT), await said_to(production, OVER_TLS)
    assert await said_to(production, {}) == NO_TOKEN, "what this machine sends itself passes no network"
    assert plain == (REFUSED if is_required else NO_TOKEN)
    assert behind_proxy == (NO_TOKEN if is_believed or not is_required else REFUSED)
    async with httpx.AsyncClient(base_url=production.url, timeout=PATIENCE_SECONDS) as client:
        page, behind = await client.get("/api/calls/"), await client.get("/api/calls/", headers=OVER_TLS)
    assert page.status_code == (301 if is_required else 401)
    assert behind.status_code == (401 if is_believed or not is_required else 301)
    assert "FORWARDED_ALLOW_IPS" not in os.environ
