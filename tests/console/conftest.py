"""A real browser, which notes everything it complains about."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio
from playwright.async_api import Browser, Page

from hplus.management.commands.seed_demo import PASSWORD
from tests.browser import new_context
from tests.servers import ThreadServer

# Where `HPLUS_SCREENSHOTS=docs/screenshots pytest tests/console` puts what it has seen.
SCREENSHOTS = os.environ.get("HPLUS_SCREENSHOTS")


class AdminPage:
    """A page at this server, and everything it complained about or asked of another host."""

    def __init__(self, page: Page, server: ThreadServer) -> None:
        self.page, self.server = page, server
        self.complaints: list[str] = []
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._must_be_here)
        page.on("dialog", self._must_not_ask)

    def _must_be_here(self, request: Any) -> None:
        if not request.url.startswith((self.server.url, "data:", "blob:")):
            self.complaints.append(f"asked another host: {request.url}")

    async def _must_not_ask(self, dialog: Any) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        await dialog.dismiss()

    async def open(self, path: str) -> int:
        answer = await self.page.goto(self.server.url + path)
        assert answer is not None
        return answer.status

    async def sign_in(self, user_id: str = "admin_001") -> None:
        await self.open("/admin/login/")
        await self.page.fill("input[name=username]", user_id)
        await self.page.fill("input[name=password]", PASSWORD)
        await self.page.click("#login-form button")
        await self.page.wait_for_url("**/admin/")

    async def look(self, name: str) -> None:
        """Keep what is seen, where somebody wants to look at it."""
        if SCREENSHOTS:
            await self.page.wait_for_timeout(400)
            await self.page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Browser, server: ThreadServer) -> AsyncIterator[Callable[..., Any]]:
    """Open one: `await open_page(width=390, height=844, dark=True)`. None may have complained in the end."""
    opened: list[AdminPage] = []

    async def open_admin_page(*, width: int = 1366, height: int = 768, dark: bool = False) -> AdminPage:
        context = await new_context(
            browser, viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        opened.append(AdminPage(await context.new_page(), server))
        return opened[-1]

    yield open_admin_page
    for page in opened:
        await page.page.context.close()
    assert [complaint for one in opened for complaint in one.complaints] == []
