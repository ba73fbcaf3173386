"""A real browser: Chromium, where this machine has one."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, async_playwright

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def needs_browser() -> None:
    """Skips where there is no Chromium; in CI that is a failure."""
    if not CHROMIUM:
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop("no Chromium here: apt install chromium")


@asynccontextmanager
async def chromium(*arguments: str) -> AsyncIterator[Browser]:
    needs_browser()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *arguments]
        )
        try:
            yield browser
        finally:
            await browser.close()
