"""Two pages in a real browser call each other: picture and sound arrive on both sides."""

from __future__ import annotations

import asyncio
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from calls.models import Call
from tests.browser import IN_BROWSER, new_context
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS

pytestmark = IN_BROWSER
PAGE = Path(__file__).parent / "page"


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """A test says what went wrong; it needs no access log."""


@pytest.fixture
def site(settings) -> Iterator[str]:
    """The device's page on a port of its own: another origin than the server's, so it must be allowed."""
    settings.ALLOWED_HOSTS = ["localhost"]
    handler = functools.partial(QuietFiles, directory=PAGE)
    files = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=files.serve_forever, daemon=True).start()
    yield f"http://localhost:{files.server_port}/"
    files.shutdown()
    files.server_close()


async def a_device(browser: Browser, site: str, socket_url: str) -> Page:
    page = await (await new_context(browser)).new_page()
    await page.goto(site)
    await page.evaluate(
        "async (url) => { window.device = new Device(url); await device.connected; }", socket_url
    )
    return page


async def test_video_and_audio_arrive_on_both_sides(
    server: ThreadServer, site: str, browser: Browser
) -> None:
    socket = f"ws://127.0.0.1:{server.port}/"
    patient, doctor = await asyncio.gather(
        a_device(browser, site, f"{socket}?userId=patient_123&role=patient"),
        a_device(browser, site, f"{socket}?userId=doctor_123&role=doctor&hospitalId=hospital_001"),
    )
    await patient.evaluate("device.call('doctor_123')")
    for page in (patient, doctor):
        async with asyncio.timeout(PATIENCE_SECONDS):
            arrived = await page.evaluate("device.arrives(10)")
        assert arrived["framesDecoded"] >= 10
        assert arrived["audioPackets"] >= 10
        assert await page.evaluate("document.getElementById('other').videoWidth") > 0
    call = await Call.objects.aget()
    assert call.status == "active"

    await doctor.evaluate("device.hangUp()")
    await patient.wait_for_function("device.words().includes('callEnd')")
    ended = await patient.evaluate("device.heard.at(-1)")
    assert (ended["type"], ended["userId"], ended["data"]["status"]) == ("callEnd", "doctor_123", "ended")
    assert await patient.evaluate("device.peer.connectionState") == "closed"
    for page in (patient, doctor):
        assert "error" not in await page.evaluate("device.words()")
