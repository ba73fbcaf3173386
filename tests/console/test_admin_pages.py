"""Every page of the admin site: it fits the screen, runs nothing that people wrote, asks no other host.

What a browser complains of, and each request to another host, fails these tests (`conftest.AdminPage`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.urls import reverse
from playwright.async_api import Page, expect

from chat.legal_hold import hold
from chat.models import Attachment, ChatRoom, Message
from emergency.models import Emergency
from hplus.accounts.models import Hospital, Session, User
from hplus.notifications.models import Notification
from hplus.push.models import PushDevice
from tests.browser import IN_BROWSER
from tests.full_dataset import LISTS, fill

pytestmark = IN_BROWSER
EVIL = '<img src=x onerror=alert(1)><script>alert("x")</script>'
LONG = EVIL + "w" * 60
OpenPage = Callable[..., Any]
PHONE = {"width": 390, "height": 844}
WIDE = {"width": 1366, "height": 768}


@pytest.fixture
def pages(users: dict[str, User]) -> list[str]:
    """All lists and the page of a row of each, with markup in whatever people write."""
    fill(users, "001")
    room = ChatRoom.objects.get()
    hold(users["admin_001"], room.pk, LONG)
    Hospital.objects.filter(pk="hospital_001").update(name=EVIL, is_on_diversion=True, diversion_reason=LONG)
    User.objects.exclude(pk="admin_001").update(name=EVIL, department=LONG)
    Session.objects.update(device_id=LONG)
    PushDevice.objects.update(device_id=LONG)
    Notification.objects.update(title=LONG, body=LONG)
    Emergency.objects.update(condition=LONG, patient_name=EVIL, address=LONG, description=LONG)
    Attachment.objects.update(name=LONG)
    for message in Message.objects.all():
        message.text = LONG
        message.attachments = [{**file, "name": LONG} for file in message.attachments or []]
        message.save()
    return [address for model in LISTS for address in _of(model, users["admin_001"])]


def _of(model: Any, admin: User) -> list[str]:
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    row = model.objects.visible_to(admin).first()
    return [reverse(f"{name}_changelist"), reverse(f"{name}_change", args=[quote(row.pk)])]


async def is_wider_than_its_screen(page: Page) -> bool:
    root = "document.documentElement"
    return bool(await page.evaluate(f"{root}.scrollWidth > {root}.clientWidth"))


@pytest.mark.parametrize("screen", [WIDE, PHONE], ids=["wide", "phone"])
async def test_every_page_fits_the_viewport_and_escapes_markup(
    pages: list[str], open_page: OpenPage, screen: dict[str, int]
) -> None:
    at = await open_page(**screen)
    await at.sign_in()
    told, wide = [], []
    for address in ["/admin/", *pages]:
        assert await at.open(address) == 200, address
        await expect(at.page.locator("#content")).to_be_visible()
        told += [address] if "&lt;script&gt;alert" in await at.page.content() else []
        wide += [address] if await is_wider_than_its_screen(at.page) else []
    assert not wide, f"wider than the screen: {wide}"
    assert len(told) > len(pages) / 2  # it was there to be run


async def test_file_and_hospital_names_are_escaped(pages: list[str], open_page: OpenPage) -> None:
    at = await open_page()
    await at.sign_in()
    await expect(at.page.locator("#hp-diversion")).to_contain_text(LONG)
    await expect(at.page.locator(".hp-bar h1")).to_have_text(EVIL)
    await at.page.goto(at.server.url + next(page for page in pages if "/chat/chatroom/0" in page))
    await expect(at.page.locator(".file a")).to_have_text(LONG)
    await expect(at.page.locator(".is-held")).to_contain_text(LONG)


async def test_reduced_motion_disables_animations(pages: list[str], open_page: OpenPage) -> None:
    at = await open_page()
    await at.sign_in()
    moving = """() => {
        const one = document.querySelector("#content").appendChild(document.createElement("p"));
        one.className = "hp-new";
        one.style.transition = "opacity 2s";
        const style = getComputedStyle(one);
        return [style.animationName, parseFloat(style.transitionDuration) > 0.01];
    }"""
    for motion, moves in (("no-preference", ["hp-arrive", True]), ("reduce", ["none", False])):
        await at.page.emulate_media(reduced_motion=motion)
        assert await at.page.evaluate(moving) == moves


# With the keyboard alone


async def press(page: Page, *keys: str) -> None:
    for key in keys:
        await page.keyboard.press(key)


async def test_skip_link_passes_the_navigation(pages: list[str], open_page: OpenPage) -> None:
    at = await open_page()
    await at.sign_in()
    await press(at.page, "Tab")
    await expect(at.page.get_by_role("link", name="Skip the navigation")).to_be_focused()
    await press(at.page, "Enter", "Tab")
    await expect(at.page.locator("#hp-rows a").first).to_be_focused()


async def test_filters_work_with_the_keyboard(pages: list[str], open_page: OpenPage) -> None:
    at = await open_page()
    await at.sign_in()
    await at.open("/admin/accounts/user/")
    filters, opener = at.page.locator("#changelist-filter"), at.page.get_by_role("button", name="Filters")
    await at.page.locator("#searchbar").focus()
    await press(at.page, "Tab")
    await expect(opener).to_be_focused()
    await press(at.page, "Enter")
    await expect(filters.locator("a").first).to_be_focused()
    await press(at.page, "Escape")
    await expect(filters).to_be_hidden()
    await expect(opener).to_be_focused()


async def test_sign_out_works_with_the_keyboard(pages: list[str], open_page: OpenPage) -> None:
    at = await open_page()
    await at.sign_in()
    await at.page.get_by_role("button", name="Admin 001").focus()
    await press(at.page, "Enter")
    await expect(at.page.get_by_role("button", name="Light")).to_be_focused()
    await press(at.page, "Escape")
    await expect(at.page.get_by_text("Log out")).to_be_hidden()
    await press(at.page, "Enter")
    await at.page.get_by_text("Log out").press("Enter")
    await at.page.wait_for_url("**/admin/logout/")


async def test_navigation_opens_on_a_narrow_viewport(pages: list[str], open_page: OpenPage) -> None:
    at = await open_page(**PHONE)
    await at.sign_in()
    link = at.page.get_by_role("link", name="Who is online")
    await expect(link).not_to_be_in_viewport()
    await at.page.get_by_role("button", name="Navigation", exact=True).press("Enter")
    await expect(link).to_be_in_viewport()
