"""Sessions that an admin ends close the phones' connections within five seconds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from playwright.async_api import Browser, expect

from hplus.accounts.models import Session, User
from hplus.management.commands.seed_demo import PASSWORD
from tests.admin_site import admin_client_of
from tests.board.admin_page import admin_page
from tests.phone import Phone
from tests.servers import Endpoint, ProcessServer, ThreadServer, reconciled
from tests.waiting import PATIENCE_SECONDS

DISABLED, REVOKED = 4004, 4005
PEOPLE = "/admin/accounts/user/"
SESSIONS = "/admin/accounts/session/"


@pytest.fixture
def process(users: object) -> Iterator[ProcessServer]:
    """A server process of its own, which learns of the admin site only through the database."""
    with ProcessServer(None, HPLUS_DEMO="0", DEBUG="1") as running:
        yield running


async def signed_in(server: ProcessServer | ThreadServer, user_id: str, device_id: str) -> Phone:
    """A phone with a session, to be used with `async with`."""
    asked = {"userId": user_id, "password": PASSWORD, "deviceId": device_id}
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        tokens = (await client.post(f"{server.url}/api/auth/token/", json=asked)).json()
    known = {"role": tokens["role"], "hospitalId": tokens["hospitalId"], "token": tokens["access"]}
    return Phone(f"ws://127.0.0.1:{server.port}", userId=user_id, **known)


@sync_to_async
def do(admin_id: str, page: str, action: str, *ids: Any) -> None:
    admin_client_of(admin_id).post(page, {"action": action, "_selected_action": [str(one) for one in ids]})


async def closed(server: Endpoint, phone: Phone, code: int) -> None:
    assert await reconciled(server, phone.expect_close()) == code


async def goes_on(phone: Phone) -> None:
    """It answers, and nobody has shown it out."""
    await phone.echo()
    assert phone.close_code is None


@asynccontextmanager
async def a_ward(server: ProcessServer) -> Any:
    """Two phones of the doctor and one of the nurse, all signed in."""
    async with (
        await signed_in(server, "doctor_123", "pixel") as phone,
        await signed_in(server, "doctor_123", "tablet") as tablet,
        await signed_in(server, "nurse_001", "nokia") as nurse,
    ):
        yield phone, tablet, nurse


async def test_revoked_session_closes_its_socket_and_no_other(process: ProcessServer) -> None:
    async with a_ward(process) as (phone, tablet, nurse):
        session = await sync_to_async(Session.objects.get)(device_id="pixel")
        await do("admin_002", SESSIONS, "revoke", session.pk)  # not theirs: nothing happens
        for one in (phone, tablet, nurse):
            await goes_on(one)
        assert not await sync_to_async(Session.objects.exclude(revoked_at=None).exists)()
        await do("admin_001", SESSIONS, "revoke", session.pk)
        await closed(process, phone, REVOKED)
        await phone.expect_error("SESSION_REVOKED")
        for one in (tablet, nurse):
            await goes_on(one)


async def test_sign_out_everywhere_closes_all_sockets_of_the_user(process: ProcessServer) -> None:
    async with a_ward(process) as (phone, tablet, nurse):
        await do("admin_002", PEOPLE, "sign_out", "doctor_123")
        await goes_on(phone)
        await do("admin_001", PEOPLE, "sign_out", "doctor_123")
        await asyncio.gather(*(closed(process, one, REVOKED) for one in (phone, tablet)))
        await goes_on(nurse)


async def test_deactivation_closes_all_sockets_of_the_user(process: ProcessServer) -> None:
    async with a_ward(process) as (phone, tablet, nurse):
        await do("admin_002", PEOPLE, "deactivate", "doctor_123")
        await goes_on(phone)
        await do("admin_001", PEOPLE, "deactivate", "doctor_123")
        await asyncio.gather(*(closed(process, one, DISABLED) for one in (phone, tablet)))
        await goes_on(nurse)


async def test_sign_out_everywhere_closes_demo_sockets_without_session(server: ThreadServer) -> None:
    async with (
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        await do("admin_002", PEOPLE, "sign_out", "doctor_123")
        await goes_on(doctor)
        await do("admin_001", PEOPLE, "sign_out", "doctor_123")
        await closed(server, doctor, REVOKED)
        await goes_on(nurse)
        async with server.phone("doctor_123", "doctor", "hospital_001") as again:
            await goes_on(again)


@pytest.mark.e2e
@pytest.mark.asyncio(loop_scope="session")
async def test_sign_out_button_on_user_page_closes_sockets(server: ThreadServer, browser: Browser) -> None:
    async with await signed_in(server, "nurse_001", "nokia") as nurse, admin_page(browser, server) as page:
        await page.goto(f"{server.url}{PEOPLE}nurse_001/change/")
        await page.get_by_role("button", name="Sign out everywhere").press("Enter")
        await closed(server, nurse, REVOKED)
        await expect(page.get_by_text("1 of 1 signed out.")).to_be_visible()
        await expect(page).to_have_url(re.compile("/change/$"))


@pytest.mark.e2e
@pytest.mark.asyncio(loop_scope="session")
async def test_open_board_ends_and_its_cookie_stays_invalid(
    quick_reconciliation: None, server: ThreadServer, browser: Browser
) -> None:
    """Also that of a colleague who is deactivated and let in again: the old cookie stays worthless."""
    await sync_to_async(User.objects.create_user)(
        "admin_003", PASSWORD, role="admin", hospital_id="hospital_001", is_staff=True
    )
    async with admin_page(browser, server) as page:
        for ended in (["Sign out everywhere"], ["Deactivate", "Reactivate"]):
            async with admin_page(browser, server, "admin_003") as other:
                state = other.locator("#hp-state")
                await expect(state).to_have_attribute("data-state", "live")
                for button in ended:
                    await page.goto(f"{server.url}{PEOPLE}admin_003/change/")
                    await page.get_by_role("button", name=button).click()
                    await expect(page.get_by_text("1 of 1")).to_be_visible()
                await expect(state).to_contain_text("Signed out")
                await other.goto(f"{server.url}/admin/")
                await expect(other).to_have_url(f"{server.url}/admin/login/?next=/admin/")
        await page.goto(f"{server.url}/admin/")
        await expect(page.locator("#hp-state")).to_have_attribute("data-state", "live")


def test_admin_who_signs_out_own_account_must_sign_in_again(users: dict[str, User]) -> None:
    answer = admin_client_of(users["admin_001"]).post(
        PEOPLE, {"action": "sign_out", "_selected_action": ["admin_001"]}, follow=True
    )
    assert answer.redirect_chain[-1][0].startswith("/admin/login/")
