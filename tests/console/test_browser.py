"""What staff see, in a real browser: nothing is blocked, nothing runs that should not."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from playwright.async_api import expect

from chat import actions as chat
from chat.messages import DeleteMessage, EditMessage, SendMessage
from chat.models import ChatRoom, Message
from hplus.accounts.models import User
from hplus.management.commands.seed_demo import seed_history
from tests.browser import IN_BROWSER

pytestmark = IN_BROWSER
EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'
OpenPage = Callable[..., Any]


@pytest.fixture
def room(users: dict[str, User]) -> str:
    """A talk with everything in it: a reply, a change of mind, a deletion, markup, something urgent."""
    seed_history()
    User.objects.filter(pk="nurse_001").update(name=EVIL)
    doctor, patient = users["doctor_456"], users["patient_123"]
    question = Message.objects.get(text__startswith="Thank you for writing")
    say(patient, doctor, "It passes, but it comes back at night.", reply_to=question.message_id)
    later = say(doctor, patient, "Do you take anything for it?")
    chat.edit(doctor, EditMessage(message_id=later.message_id, message="Do you take any medicine for it?"))
    slip = say(patient, doctor, "My insurance number is 7391")
    chat.delete(patient, DeleteMessage(message_id=slip.message_id))
    say(patient, doctor, EVIL)
    say(patient, doctor, "It is getting worse now.", priority="urgent")
    return Message.objects.get(pk=question.pk).room_id


def say(sender: User, receiver: User, text: str, **more: Any) -> Message:
    request = SendMessage(receiver_id=receiver.pk, hospital_id="hospital_001", message=text, **more)
    made = chat.send(sender, request).ack_data
    assert made is not None
    return Message.objects.get(message_id=made["messageId"])


async def test_sign_in_and_navigation(room: str, open_page: OpenPage) -> None:
    at = await open_page()
    await at.open("/admin/")
    await at.look("login")
    await at.sign_in()
    await expect(at.page.locator("#nav-sidebar")).to_contain_text("Conversations")
    for path in ("accounts/user/", "accounts/session/", "accounts/hospital/", "realtime/connection/",
                 "calls/call/", "notifications/notification/", "location/latest/", "audit/record/",
                 "accounts/user/nurse_001/change/", "accounts/user/add/"):  # fmt: skip
        assert await at.open(f"/admin/{path}") == 200
        await expect(at.page.locator("#content")).to_be_visible()
    await at.open("/admin/accounts/user/")
    await at.look("people")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("transcript", {"width": 1366, "height": 768}),
        ("transcript-dark", {"width": 1366, "height": 768, "dark": True}),
        ("transcript-phone", {"width": 390, "height": 844}),
        ("transcript-phone-dark", {"width": 390, "height": 844, "dark": True}),
    ],
)
async def test_transcript_page_shows_a_conversation(
    room: str, open_page: OpenPage, name: str, size: dict[str, Any]
) -> None:
    at = await open_page(**size)
    await at.sign_in()
    await at.open(f"/admin/chat/chatroom/{room}/change/")
    lines = at.page.locator(".lines .line")
    await expect(lines).to_have_count(9)
    await expect(lines.filter(has_text="alert")).to_contain_text(EVIL)
    await expect(at.page.locator(".gone")).to_contain_text("Deleted by")
    assert "7391" not in await at.page.content()
    left, right = lines.nth(0), lines.nth(1)
    assert (await left.bounding_box())["x"] != (await right.bounding_box())["x"]
    is_wider = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not await at.page.evaluate(is_wider)
    await at.look(name)


async def test_legal_hold_is_set_with_the_keyboard(room: str, open_page: OpenPage) -> None:
    at = await open_page()
    await at.sign_in()
    await at.open(f"/admin/chat/chatroom/{room}/change/")
    await at.page.locator(".hold summary").focus()
    await at.page.keyboard.press("Enter")
    await at.page.locator("#reason").focus()
    await at.page.keyboard.type("Case 17")
    await at.page.keyboard.press("Enter")
    await expect(at.page.locator(".is-held")).to_contain_text("Case 17")
    held = await sync_to_async(ChatRoom.objects.get)(pk=room)
    assert (held.held_by_id, held.hold_reason) == ("admin_001", "Case 17")


async def test_search_results_escape_markup(room: str, open_page: OpenPage) -> None:
    at = await open_page()
    await at.sign_in()
    await at.open("/admin/chat/message/")
    await at.page.fill("#searchbar", "getting worse")
    await at.page.press("#searchbar", "Enter")
    await at.page.wait_for_url("**q=getting**")
    await expect(at.page.locator("#result_list")).to_contain_text("It is getting worse now.")
    await at.open("/admin/chat/message/")
    await expect(at.page.locator("#result_list")).to_contain_text("<script>alert")
    await at.look("messages")


async def test_export_downloads_a_file(room: str, open_page: OpenPage) -> None:
    at = await open_page()
    await at.sign_in()
    await at.open("/admin/accounts/user/?q=nurse_001")
    await at.page.locator("input.action-select:visible").first.check()
    await at.page.locator("select[name=action]").select_option("export_csv")
    async with at.page.expect_download() as coming:
        await at.page.get_by_role("button", name="Run").click()
    path = await (await coming.value).path()
    rows = list(csv.DictReader(StringIO(await sync_to_async(partial(Path(path).read_text, "utf-8-sig"))())))
    assert [(row["user_id"], row["name"]) for row in rows] == [("nurse_001", EVIL)]


async def test_rows_of_the_other_hospital_are_not_shown(room: str, open_page: OpenPage) -> None:
    at = await open_page()
    await at.sign_in("admin_002")
    await at.open(f"/admin/chat/chatroom/{room}/change/")
    assert at.page.url.endswith("/admin/")
    assert "chest" not in await at.page.content()
    await at.open("/admin/chat/message/?q=worse")
    assert "getting worse" not in await at.page.content()


async def test_audit_page_shows_what_was_read(room: str, open_page: OpenPage) -> None:
    at = await open_page()
    await at.sign_in()
    await at.open(f"/admin/chat/chatroom/{room}/change/")
    await at.open("/admin/audit/record/")
    await expect(at.page.locator("#result_list")).to_contain_text(room)
    await at.look("audit")


async def test_api_page_works_under_the_csp(users: dict[str, User], open_page: OpenPage) -> None:
    at = await open_page()
    await at.open("/api/docs/")
    await expect(at.page.locator(".swagger-ui .info .title")).to_contain_text("HPlus")


# /console/


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("console", {"width": 1366, "height": 768}),
        ("console-dark", {"width": 1366, "height": 768, "dark": True}),
        ("console-phone", {"width": 390, "height": 844}),
    ],
)
async def test_console_carries_a_conversation(
    users: dict[str, User], open_page: OpenPage, name: str, size: dict[str, Any]
) -> None:
    at, other = await open_page(**size), await open_page()
    for one, who in ((at, "patient_123"), (other, "doctor_456")):
        await one.open("/console/")
        await one.page.select_option("#person", who)
        await one.page.click("#connect")
        await expect(one.page.locator("#state")).to_have_text(f"Connected as {who}")
        await expect(one.page.locator("#log li[data-type=connection_established]")).to_have_count(1)
    await at.page.select_option("#sample", label="sendMessage")
    await at.page.fill(
        "#frame",
        '{"type": "sendMessage", "receiverId": "doctor_456", "hospitalId": "hospital_001",'
        ' "messageType": "text", "message": "<b>Is the ECG ready?</b>"}',
    )
    await at.page.press("#frame", "Control+Enter")
    for one in (at, other):
        await expect(one.page.locator("#log li[data-type=newMessage]").first).to_contain_text(
            "<b>Is the ECG ready?</b>"
        )
    await at.page.fill("#frame", "not JSON")
    await at.page.click("#send")
    await expect(at.page.locator("#problem")).to_contain_text("This is not JSON")
    await at.page.fill("#frame", '{"type": "unheardOf"}')
    await at.page.click("#send")
    await expect(at.page.locator("#log li.error")).to_contain_text("UNKNOWN_TYPE")
    await at.page.select_option("#sample", label="sendMessage")
    await at.look(name)
    await at.page.click("#connect")
    await expect(at.page.locator("#state")).to_have_text("Not connected")


async def test_every_console_sample_is_accepted(users: dict[str, User], open_page: OpenPage) -> None:
    at = await open_page()
    await at.open("/console/")
    await at.page.select_option("#person", "doctor_123")
    await at.page.click("#connect")
    await expect(at.page.locator("#send")).to_be_enabled()
    said = await at.page.locator("#sample option").all_text_contents()
    for sample in said:
        if sample not in ("logout", "login"):
            await at.page.select_option("#sample", label=sample)
            await at.page.click("#send")
    await at.page.fill("#frame", '{"type": "heartbeat", "timestamp": "last", "requestId": "last"}')
    await at.page.uncheck("#quiet")
    await at.page.click("#send")
    await expect(at.page.locator("#log li.in[data-type=heartbeat]")).to_have_count(1)
    assert len(said) > 20
    refused = await at.page.locator("#log li.error pre").all_text_contents()
    assert [frame for frame in refused if "UNKNOWN_TYPE" in frame or "VALIDATION_ERROR" in frame] == []
