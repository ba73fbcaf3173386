"""How it looks: screenshots for whoever wants to see them, and nothing that runs out of the screen."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.utils import timezone
from playwright.async_api import Browser, Page, expect

from chat.models import Message
from emergency.models import Emergency, Entry
from location.models import Fix
from tests.board.admin_page import NARROW, WIDE, admin_page
from tests.browser import IN_BROWSER
from tests.emergency.guide_frames import create_emergency_request, respond, update_status
from tests.servers import ThreadServer

pytestmark = IN_BROWSER
KEPT = Path(os.environ.get("HPLUS_SCREENSHOTS", "var/screenshots"))
KEPT.mkdir(parents=True, exist_ok=True)


def at(lat: float, lng: float, address: str) -> dict[str, Any]:
    return {"lat": lat, "lng": lng, "address": address}


NEEDS = [
    {"condition": "Fall from a ladder, leg broken", "priority": "medium", "patientName": "Robin Lane",
     "location": at(37.7689, -122.4331, "12 Mill Road")},
    {"condition": "Cardiac arrest, bystander CPR", "priority": "critical", "patientName": "Pat Meadow",
     "location": at(37.7811, -122.4110, "Central Station, platform 4"),
     "vitals": {"respirationRate": 7, "spo2": 84, "systolic": 82, "pulse": 134, "temperature": 35.1,
                "consciousness": "P", "onOxygen": True}},
    {"condition": "Severe shortness of breath", "priority": "high", "patientName": "Kim Rivers",
     "location": at(37.7749, -122.4194, "3 Harbour Street"),
     "vitals": {"respirationRate": 26, "spo2": 91, "pulse": 118, "systolic": 132}},
    {"condition": "Cut on the hand", "priority": "low", "patientName": "Alex Hill",
     "location": at(37.7625, -122.4050, "School kitchen")},
]  # fmt: skip


async def a_busy_evening(server: ThreadServer) -> str:
    """Four emergencies, one of them on its way; the id of that one."""
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("test_user", "patient") as bystander,
        server.phone("paramedic_456", "paramedic", "hospital_001") as kit,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        ids = []
        for need in NEEDS:
            caller = bystander if need is NEEDS[-1] else patient  # the fourth of one person would be added
            answer = await caller.ask("emergencyRequest", **create_emergency_request(**need))
            ids.append(answer["data"]["emergencyId"])
        taken = ids[2]
        await kit.ask("emergencyResponse", **respond(taken, "accept", estimatedArrival="6 minutes"))
        await kit.ask("emergencyStatusUpdate", **update_status(taken, None, phase="enRoute"))
        for step in range(12):
            place = {"lat": 37.7849 - step * 0.0008, "lng": -122.4294 + step * 0.0008, "accuracy": 8.0}
            await kit.ask("locationUpdate", location=place, isEmergency=True, emergencyId=taken)
        await patient.ask(
            "sendMessage", receiverId="nurse_001", hospitalId="hospital_001", message="She can hardly speak."
        )
        await nurse.ask(
            "sendMessage", receiverId="patient_123", hospitalId="hospital_001",
            message="Help is six minutes away. Let her sit upright.",
        )  # fmt: skip
        for spo2, pulse in ((89, 124), (93, 110), (96, 96)):
            vitals = {"spo2": spo2, "pulse": pulse, "respirationRate": 24, "systolic": 128,
                      "temperature": 37.1, "consciousness": "A", "onOxygen": True}  # fmt: skip
            await kit.ask(
                "emergencyStatusUpdate", **update_status(taken, None, phase="atPatient", vitals=vitals)
            )
    return str(taken)


@sync_to_async
def half_an_hour_ago(emergency_id: str) -> None:
    """As if it had all taken its time: the story a minute a step, the others waiting for a while."""
    now = timezone.now()
    for minutes, other in enumerate(Emergency.objects.exclude(pk=emergency_id), 1):
        waited = timedelta(minutes=minutes, seconds=17 * minutes)
        Emergency.objects.filter(pk=other.pk).update(requested_at=now - waited, alerted_at=now - waited)
    begun = now - timedelta(minutes=18)
    times = {"requested_at": begun, "alerted_at": begun + timedelta(seconds=2)}
    times |= {"accepted_at": begun + timedelta(seconds=75), "on_scene_at": begun + timedelta(minutes=7)}
    Emergency.objects.filter(pk=emergency_id).update(**times)
    entries = sorted(Entry.objects.filter(emergency=emergency_id), key=lambda entry: entry.sort_key)
    for step, entry in enumerate(entries):
        Entry.objects.filter(pk=entry.pk).update(at=begun + timedelta(seconds=75 * max(0, step - 2)))
    for step, fix in enumerate(Fix.objects.filter(reason_id=emergency_id).order_by("id")):
        Fix.objects.filter(pk=fix.pk).update(at=begun + timedelta(seconds=80 + 28 * step))
    for step, message in enumerate(Message.objects.order_by("id")):
        Message.objects.filter(pk=message.pk).update(sent_at=begun + timedelta(seconds=100 + 40 * step))


async def no_wider_than_the_screen(page: Page) -> None:
    width, screen = await page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= screen


async def test_board_and_emergency_page_fit_the_viewport(server: ThreadServer, browser: Browser) -> None:
    emergency_id = await a_busy_evening(server)
    await half_an_hour_ago(emergency_id)
    async with (
        server.phone("doctor_123", "doctor", "hospital_001"),
        server.phone("paramedic_456", "paramedic", "hospital_001"),
    ):
        for name, screen in (("wide", WIDE), ("narrow", NARROW)):
            for scheme in ("light", "dark"):
                async with admin_page(browser, server, viewport=screen, color_scheme=scheme) as page:
                    await look(page, server, emergency_id, f"{name}-{scheme}")


async def look(page: Page, server: ThreadServer, emergency_id: str, name: str) -> None:
    is_long = name.startswith("narrow")
    await expect(page.locator("#hp-state")).to_have_attribute("data-state", "live")
    await expect(page.locator("#hp-rows tr")).to_have_count(4)
    await expect(page.locator("#hp-people")).to_contain_text("Admin 001")
    await no_wider_than_the_screen(page)
    await page.screenshot(path=KEPT / f"board-{name}.png", full_page=is_long)
    await page.goto(f"{server.url}/admin/emergency/emergency/{emergency_id}/change/")
    await expect(page.locator("#hp-state")).to_have_attribute("data-state", "live")
    await no_wider_than_the_screen(page)
    await page.screenshot(path=KEPT / f"emergency-{name}.png", full_page=is_long)
    await page.get_by_role("button", name="Reassign").click()
    await expect(page.locator("#hp-assign")).to_be_visible()
    await no_wider_than_the_screen(page)
    if name == "wide-dark":
        await page.keyboard.press("Escape")
        await page.emulate_media(media="print", color_scheme="dark")
        paper = "getComputedStyle(document.getElementById('hp-head')).backgroundColor"
        assert await page.evaluate(paper) == "rgb(255, 255, 255)"
    if name == "wide-light":
        await page.screenshot(path=KEPT / "emergency-reassign.png")
        await page.keyboard.press("Escape")
        await page.emulate_media(media="print")
        await expect(page.locator("#hp-actions")).to_be_hidden()
        await expect(page.locator("#hp-timeline")).to_be_visible()
        await page.emulate_media(media="screen")
        await page.goto(f"{server.url}/admin/accounts/hospital/hospital_001/change/")
        await no_wider_than_the_screen(page)
        await page.screenshot(path=KEPT / "hospital-wide-light.png")
        await page.goto(f"{server.url}/admin/emergency/emergency/")
        await page.screenshot(path=KEPT / "emergencies-wide-light.png")
