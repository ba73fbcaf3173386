"""The live board shows what phones do, without a reload."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, expect

from tests.board.admin_page import admin_page
from tests.browser import IN_BROWSER
from tests.emergency.guide_frames import create_emergency_request, respond, update_status
from tests.location.positions import told
from tests.servers import ProcessServer, ThreadServer

pytestmark = IN_BROWSER
TILE = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\xda"
    b"c\xfc\xcf\xc0P\x0f\0\x04\x85\x01\x80\x84\xa9\x8c!\0\0\0\0IEND\xaeB`\x82"
)
XSS = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"


async def is_live(page: Page) -> None:
    await expect(page.locator("#hp-state")).to_have_attribute("data-state", "live")


async def test_board_follows_an_emergency_live_without_reload(server: ThreadServer, browser: Browser) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as kit,
        admin_page(browser, server) as page,
    ):
        await is_live(page)
        await page.evaluate("window.neverReloaded = true")
        await expect(page.locator("#hp-empty")).to_be_visible()

        low = await patient.ask(
            "emergencyRequest", **create_emergency_request(priority="low", condition="Cut")
        )
        rows = page.locator("#hp-rows tr")
        await expect(rows).to_have_count(1)
        asked_for = create_emergency_request(priority="critical", condition="No pulse", patientName=XSS)
        critical = (await patient.ask("emergencyRequest", **asked_for))["data"]["emergencyId"]
        await expect(rows).to_have_count(2)
        first = rows.first
        await expect(first).to_contain_text("critical")
        await expect(first).to_contain_text("nobody yet")
        await expect(first).to_contain_text("<img src=x")  # as text, and only as text
        assert "hacked" not in await page.title()
        waited = await first.locator("time").inner_text()
        await expect(first.locator("time")).not_to_have_text(waited)

        await kit.ask("emergencyResponse", **respond(critical, "accept"))
        taken = page.locator(f"tr[data-id='{critical}']")
        await expect(taken).to_contain_text("Kit Harbor")
        await expect(rows.first).to_have_attribute("data-id", low["data"]["emergencyId"])
        vitals = {"respirationRate": 30, "spo2": 85}
        await kit.ask(
            "emergencyStatusUpdate", **update_status(critical, "in_progress", phase="onScene", vitals=vitals)
        )
        await expect(taken).to_contain_text("on scene")
        await expect(taken).to_contain_text("≥ 6")
        fix = {"location": {"lat": 37.77, "lng": -122.41}, "isEmergency": True, "emergencyId": critical}
        await kit.ask("locationUpdate", **fix)
        await expect(page.locator("#hp-map .hp-unit")).to_contain_text("Kit Harbor")
        await expect(page.locator("#hp-people")).to_contain_text("Kit Harbor")
        await expect(page.locator("#hp-times svg")).to_have_count(3)
        await kit.ask("emergencyStatusUpdate", **update_status(critical, "completed"))
        await expect(rows).to_have_count(1)
        assert await page.evaluate("window.neverReloaded")
        asked = await page.evaluate("performance.getEntriesByType('resource').map((each) => each.name)")
        assert all(address.startswith(server.url) for address in asked)


async def test_crew_marker_moves_with_position_updates(server: ThreadServer, browser: Browser) -> None:
    async with (
        server.phone("paramedic_456", "paramedic", "hospital_001") as kit,
        admin_page(browser, server) as page,
    ):
        await is_live(page)
        marker = page.locator("#hp-map .leaflet-marker-icon", has_text="Kit Harbor")
        await told(kit, 37.77, -122.41)
        await expect(marker).to_be_attached()
        there = await marker.get_attribute("style") or ""
        await told(kit, 37.775, -122.41)
        await expect(marker).not_to_have_attribute("style", there)


async def test_only_map_tiles_are_requested_from_another_host(
    server: ThreadServer, browser: Browser, settings: Any
) -> None:
    settings.MAP_TILE_URL = "https://tiles.example/{z}/{x}/{y}.png"
    asked: set[str] = set()
    async with (
        server.phone("patient_123", "patient") as patient,
        admin_page(browser, server) as page,
    ):
        emergency_id = (await patient.ask("emergencyRequest", **create_emergency_request()))["data"][
            "emergencyId"
        ]
        page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
        await page.route("https://tiles.example/**", lambda route: route.fulfill(status=200, body=TILE))
        for address in ("", f"emergency/emergency/{emergency_id}/change/"):
            await page.goto(f"{server.url}/admin/{address}")
            await is_live(page)
            await expect(page.locator("#hp-map .leaflet-tile-loaded").first).to_be_attached()
            await expect(page.locator("#hp-map")).to_contain_text("OpenStreetMap")
    assert asked == {urlsplit(server.url).netloc, "tiles.example"}


@pytest.fixture
def process(users: object) -> Iterator[ProcessServer]:
    """A server that can be killed, and come again on its port."""
    with ProcessServer(None, HPLUS_DEMO="1", DEBUG="1") as running:
        yield running


async def test_board_shows_lost_connection_and_reconnects_after_server_restart(
    process: ProcessServer, browser: Browser
) -> None:
    async with admin_page(browser, process) as page:
        await is_live(page)
        process.kill()
        state = page.locator("#hp-state")
        await expect(state).to_contain_text("Connection lost")
        await expect(page.locator("body")).to_have_class(re.compile("hp-is-old"))
        process.start()
        await expect(state).to_have_attribute("data-state", "live")
        async with process.phone("patient_123", "patient") as patient:
            await patient.ask("emergencyRequest", **create_emergency_request())
            await expect(page.locator("#hp-rows tr")).to_have_count(1)


async def test_board_ends_after_sign_out_elsewhere(server: ThreadServer, browser: Browser) -> None:
    async with admin_page(browser, server) as page:
        await is_live(page)
        await page.context.request.get(f"{server.url}/admin/")
        other = await page.context.new_page()
        await other.goto(f"{server.url}/admin/")
        await other.evaluate(
            """() => { const form = document.querySelector("#logout-form, form[action$='/logout/']");
                       form.submit(); }"""
        )
        await expect(page.locator("#hp-state")).to_contain_text("Signed out")


async def test_emergency_page_updates_live_and_handles_actions(
    server: ThreadServer, browser: Browser
) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as kit,
        server.phone("paramedic_789", "paramedic", "hospital_001") as sam,
        admin_page(browser, server) as page,
    ):
        asked_for = create_emergency_request(condition="Chest pain", patientName=XSS)
        emergency_id = (await patient.ask("emergencyRequest", **asked_for))["data"]["emergencyId"]
        await page.get_by_role("link", name="Chest pain").click()
        await is_live(page)
        await page.evaluate("window.neverReloaded = true")
        await kit.ask("emergencyResponse", **respond(emergency_id, "accept", estimatedArrival="5 min"))
        await expect(page.locator("#hp-head")).to_contain_text("Kit Harbor")
        await expect(page.locator("#hp-timeline")).to_contain_text("took it")
        vitals = {"respirationRate": 30, "spo2": 85}
        await kit.ask("emergencyStatusUpdate", **update_status(emergency_id, "in_progress", vitals=vitals))
        await expect(page.locator("#hp-trend svg")).to_be_visible()
        await patient.ask(
            "sendMessage", receiverId="nurse_001", hospitalId="hospital_001", message=f"Hurry {XSS}"
        )
        for lat in (37.780, 37.777, 37.775):
            fix = {"location": {"lat": lat, "lng": -122.42}, "isEmergency": True}
            await kit.ask("locationUpdate", **fix, emergencyId=emergency_id)
        await expect(page.locator("#hp-replay-box")).to_be_visible()
        assert await page.evaluate("window.neverReloaded")

        # With the keyboard only: another one takes over.
        await page.locator("body").press("Tab")
        await page.get_by_role("button", name="Reassign").focus()
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.closest('dialog').id") == "hp-assign"
        await page.locator("#hp-assign select").select_option("paramedic_789")
        await page.keyboard.press("Tab")
        await page.keyboard.type("Closer by")
        await page.keyboard.press("Enter")
        await expect(page.locator("#hp-head")).to_contain_text("Sam Ridge")
        await sam.expect("emergencyStatusUpdate", status="accepted")

        # The replay.
        await is_live(page)
        await expect(page.locator("#hp-timeline")).to_contain_text("Hurry <img")
        slider, moved = (
            page.locator("#hp-replay"),
            page.locator("#hp-map .leaflet-marker-icon", has_text="Kit"),
        )
        place = "mark => mark.style.transform"
        at_the_end = await moved.evaluate(place)
        await slider.focus()
        await page.keyboard.press("Home")
        assert await moved.evaluate(place) != at_the_end
        await expect(page.locator("#hp-replay-time")).to_contain_text("after the call")
        at_the_start, play = await slider.input_value(), page.locator("#hp-play")
        await play.press("Enter")
        await expect(play).to_have_text("Pause")
        await expect(slider).not_to_have_value(at_the_start)
        await play.press("Enter")
        await expect(play).to_have_text("Play")
        await slider.press("End")
        assert await moved.evaluate(place) == at_the_end

        # A button stays under the finger while other parts of the page change.
        await page.evaluate("window.button = document.querySelector('[data-dialog=hp-cancel]')")
        noted = update_status(emergency_id, "accepted", notes="The lift is broken")
        assert (await sam.ask("emergencyStatusUpdate", **noted))["type"] == "ack"
        await expect(page.locator("#hp-timeline")).to_contain_text("The lift is broken")
        assert await page.evaluate("window.button.isConnected")

        # Nothing is cancelled with one press of a key.
        await page.get_by_role("button", name="Cancel emergency").press("Enter")
        await page.keyboard.press("Escape")
        await expect(page.locator("#hp-cancel")).not_to_be_visible()
        await page.get_by_role("button", name="Cancel emergency").press("Enter")
        await page.locator("#hp-cancel input[name=notes]").fill("False alarm")
        await page.keyboard.press("Enter")
        await expect(page.locator("#hp-head")).to_contain_text("cancelled")
        await patient.expect("emergencyStatusUpdate", status="cancelled")
        assert "hacked" not in await page.title()


async def test_emergency_page_of_another_hospital_is_not_found(
    server: ThreadServer, browser: Browser
) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        admin_page(browser, server, "admin_002") as page,
    ):
        asked_for = create_emergency_request(condition="Chest pain")
        emergency_id = (await patient.ask("emergencyRequest", **asked_for))["data"]["emergencyId"]
        await page.goto(f"{server.url}/admin/emergency/emergency/{emergency_id}/change/")
        await expect(page).to_have_url(f"{server.url}/admin/")
        assert "Chest pain" not in await page.content()
        for address in (
            "emergency/emergency/board/?hospital=hospital_001",
            f"emergency/emergency/{emergency_id}/export/json/",
            f"emergency/emergency/{emergency_id}/export/fhir/",
            "?hospital=hospital_001",
        ):
            answer = await page.request.get(f"{server.url}/admin/{address}")
            assert answer.status == 404
