"""A real browser in which somebody is signed in to the admin site."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Page

from hplus.management.commands.seed_demo import PASSWORD
from tests.browser import new_context
from tests.servers import Endpoint

WIDE = {"width": 1366, "height": 768}
NARROW = {"width": 390, "height": 844}


@asynccontextmanager
async def admin_page(
    browser: Browser, server: Endpoint, user_id: str = "admin_001", **options: Any
) -> AsyncIterator[Page]:
    """Open the front page in a new context, signed in as this user. An error in a script fails the test."""
    context = await new_context(browser, viewport=options.pop("viewport", WIDE), **options)
    try:
        page = await context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        await sign_in(page, server, user_id)
        yield page
        assert not errors, errors
    finally:
        await context.close()


async def sign_in(page: Page, server: Endpoint, user_id: str) -> None:
    await page.goto(f"{server.url}/admin/login/?next=/admin/")
    await page.fill("[name=username]", user_id)
    await page.fill("[name=password]", PASSWORD)
    await page.press("[name=password]", "Enter")
    await page.wait_for_url(f"{server.url}/admin/")
