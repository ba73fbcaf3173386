"""A real browser in which somebody is signed in to the admin site."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Page

from hplus.management.commands.seed_demo import PASSWORD
from tests.browser import chromium
from tests.servers import Endpoint

WIDE = {"width": 1366, "height": 768}
NARROW = {"width": 390, "height": 844}


@asynccontextmanager
async def admin_page(server: Endpoint, user_id: str = "admin_001", **context: Any) -> AsyncIterator[Page]:
    """The front page in a browser of its own, with this person signed in."""
    async with chromium() as browser, admin_page_in(browser, server, user_id, **context) as page:
        yield page


@asynccontextmanager
async def admin_page_in(
    browser: Browser, server: Endpoint, user_id: str = "admin_001", **context: Any
) -> AsyncIterator[Page]:
    """Whatever a script complained of fails the test."""
    room = await browser.new_context(viewport=context.pop("viewport", WIDE), **context)
    page = await room.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await sign_in(page, server, user_id)
    yield page
    assert not complaints, complaints
    await room.close()


async def sign_in(page: Page, server: Endpoint, user_id: str) -> None:
    await page.goto(f"{server.url}/admin/login/?next=/admin/")
    await page.fill("[name=username]", user_id)
    await page.fill("[name=password]", PASSWORD)
    await page.press("[name=password]", "Enter")
    await page.wait_for_url(f"{server.url}/admin/")
