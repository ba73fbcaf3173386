"""A real browser for tests: one Chromium for all tests of a process, a new context for each page.

Tests that use it run in the event loop of the session, because the browser belongs to one loop:

    pytestmark = IN_BROWSER

    async def test_...(server: ThreadServer, browser: Browser) -> None: ...
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, async_playwright, expect

from tests.waiting import PATIENCE_SECONDS

IN_BROWSER = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]
NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
ARGUMENTS = (
    "--no-sandbox",
    # What a call needs where there is neither camera nor microphone, nor anybody who clicks.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection",
    "--autoplay-policy=no-user-gesture-required",
)


def needs_browser() -> None:
    """Skips where there is no Chromium; in CI that is a failure."""
    if not CHROMIUM:
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop("no Chromium here: apt install chromium")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    needs_browser()
    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


async def new_context(browser: Browser, **options: Any) -> BrowserContext:
    """Cookies and storage of its own, as a browser that was never used before."""
    context = await browser.new_context(**options)
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    return context
