"""A page of the admin site comes in with its cookie; a page of anybody else does not."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.contrib.auth import logout
from django.contrib.sessions.models import Session as BrowserSession
from django.http import HttpRequest
from django.test import Client

from hplus.accounts.models import User
from tests.admin_site import admin_client_of
from tests.emergency.guide_frames import create_emergency_request
from tests.location.positions import told, watch
from tests.phone import Phone
from tests.servers import ThreadServer


@sync_to_async
def cookie_of(user_id: str) -> str:
    """The session key of a browser in which this person is signed in."""
    return str(admin_client_of(user_id).cookies[django_settings.SESSION_COOKIE_NAME].value)


def page(server: ThreadServer, cookie: str, origin: str | None = "own", **query: Any) -> Phone:
    """The socket of a page, as a browser opens it."""
    headers = {"Cookie": f"theme=dark; {django_settings.SESSION_COOKIE_NAME}={cookie}"}
    if origin:
        headers["Origin"] = server.url if origin == "own" else origin
    return Phone(f"ws://127.0.0.1:{server.port}/ws/board/", headers=headers, **query)


async def refused(phone: Phone) -> tuple[str, int]:
    await phone.open()
    return (await phone.expect("error"))["code"], await phone.expect_close()


async def test_board_gets_boardChanged_of_its_hospital_only(server: ThreadServer) -> None:
    async with (
        page(server, await cookie_of("admin_001")) as board,
        page(server, await cookie_of("admin_002")) as elsewhere,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("patient_123", "patient") as patient,
    ):
        assert (board.established["userId"], board.established["hospitalId"]) == ("admin_001", "hospital_001")
        for each in (board, elsewhere):
            await each.ask("watchBoard")
        made = await patient.ask("emergencyRequest", **create_emergency_request())
        emergency_id = made["data"]["emergencyId"]
        changed = await board.expect("boardChanged")
        assert changed == {"type": "boardChanged", "hospitalId": "hospital_001", "emergencyId": emergency_id}
        await nurse.expect("emergencyAlert")
        await nurse.echo()
        await elsewhere.echo()
        assert nurse.heard("boardChanged") == elsewhere.heard("boardChanged") == []


async def test_board_gets_boardChanged_where_admin_is_not_alerted(server: ThreadServer) -> None:
    from emergency.models import HospitalPolicy

    await sync_to_async(HospitalPolicy.objects.create)(hospital_id="hospital_001", alert_roles=["nurse"])
    async with (
        page(server, await cookie_of("admin_001")) as board,
        server.phone("patient_123", "patient") as patient,
    ):
        await board.ask("watchBoard")
        await patient.ask("emergencyRequest", **create_emergency_request())
        await board.expect("boardChanged")
        await board.echo()
        assert board.heard("emergencyAlert") == []


async def test_watchBoard_without_permission_is_refused(server: ThreadServer) -> None:
    async with (
        page(server, await cookie_of("admin_001")) as board,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("patient_123", "patient") as patient,
    ):
        assert (await board.ask("watchBoard", hospitalId="hospital_002"))["code"] == "FORBIDDEN"
        assert (await nurse.ask("watchBoard"))["code"] == "FORBIDDEN"
        assert (await patient.ask("watchBoard", hospitalId="hospital_001"))["code"] == "FORBIDDEN"


async def test_superuser_watches_the_board_of_the_named_hospital_only(server: ThreadServer) -> None:
    cookie = await cookie_of("root")
    async with (
        page(server, cookie, hospitalId="hospital_002") as board,
        server.phone("patient_123", "patient") as patient,
    ):
        assert board.established["hospitalId"] == "hospital_002"
        await board.ask("watchBoard", hospitalId="hospital_002")
        async with server.phone("nurse_002", "nurse", "hospital_002"):
            await board.expect("userOnline", userId="nurse_002")
        here = {"hospitalId": "hospital_001", "patientId": "a"}
        await patient.ask("emergencyRequest", **create_emergency_request(**here))
        there = {"hospitalId": "hospital_002", "patientId": "b"}
        await patient.ask("emergencyRequest", **create_emergency_request(**there))
        assert (await board.expect("boardChanged"))["hospitalId"] == "hospital_002"
        assert {frame["hospitalId"] for frame in board.heard("boardChanged")} == {"hospital_002"}
        assert (await board.ask("watchBoard", hospitalId="nowhere"))["code"] == "HOSPITAL_NOT_FOUND"
    async with page(server, cookie) as board:
        assert (await board.ask("watchBoard"))["code"] == "VALIDATION_ERROR"


async def test_superuser_watches_positions_of_the_named_hospital_only(server: ThreadServer) -> None:
    async with (
        page(server, await cookie_of("root")) as board,
        server.phone("paramedic_456", "paramedic", "hospital_001") as here,
        server.phone("paramedic_002", "paramedic", "hospital_002") as there,
    ):
        assert (await board.ask("watchLocations", on=True))["code"] == "VALIDATION_ERROR"
        unknown = await board.ask("watchLocations", on=True, hospitalId="nowhere")
        assert unknown["code"] == "HOSPITAL_NOT_FOUND"
        await watch(board, hospitalId="hospital_002")
        await told(here)
        await told(there)
        await board.expect("locationUpdate", userId="paramedic_002")
        await board.echo()
        assert {frame["userId"] for frame in board.heard("locationUpdate")} == {"paramedic_002"}


@pytest.mark.parametrize(
    "origin", [None, "null", "http://127.0.0.1:1", "http://evil.example", "ftp://{host}"]
)
async def test_cookie_with_foreign_or_missing_origin_is_refused(
    server: ThreadServer, origin: str | None
) -> None:
    host = server.url.removeprefix("http://")
    sent = origin and origin.format(host=host)
    phone = page(server, await cookie_of("admin_001"), sent)
    if sent in ("null", "http://127.0.0.1:1", "http://evil.example"):
        with pytest.raises(Exception, match="403"):
            await phone.open()
        return
    assert await refused(phone) == ("AUTHENTICATION_FAILED", 4001)


async def test_cookie_from_an_allowed_but_different_origin_is_refused(
    server: ThreadServer, settings: Any
) -> None:
    settings.ALLOWED_HOSTS = ["127.0.0.1", "app.example"]
    phone = page(server, await cookie_of("admin_001"), "http://app.example")
    assert await refused(phone) == ("AUTHENTICATION_FAILED", 4001)


async def test_cookie_over_plain_http_is_refused_when_cookies_are_secure(
    server: ThreadServer, settings: Any
) -> None:
    settings.SESSION_COOKIE_SECURE = True
    assert await refused(page(server, await cookie_of("admin_001"))) == ("AUTHENTICATION_FAILED", 4001)


async def test_cookie_without_admin_site_access_is_refused(server: ThreadServer) -> None:
    for cookie in ("", "x" * 32, await cookie_of("nurse_001")):
        assert await refused(page(server, cookie)) == ("AUTHENTICATION_FAILED", 4001)
    admin = await cookie_of("admin_001")
    assert await refused(page(server, admin, hospitalId="hospital_002")) == ("AUTHENTICATION_FAILED", 4001)


async def test_query_identity_takes_precedence_over_the_cookie(server: ThreadServer) -> None:
    cookie = await cookie_of("admin_001")
    async with page(server, cookie, userId="nurse_001", role="nurse", hospitalId="hospital_001") as phone:
        assert phone.established["userId"] == "nurse_001"
    assert (await refused(page(server, cookie, token="wrong")))[1] == 4001


def sign_out(cookie: str) -> None:
    request = HttpRequest()
    request.session = Client().session.__class__(cookie)
    logout(request)


def expire(cookie: str) -> None:
    BrowserSession.objects.filter(pk=cookie).update(expire_date="2020-01-01T00:00Z")


def new_password(_: str) -> None:
    admin = User.objects.get(pk="admin_001")
    admin.set_password("Lantern-Orbit-42")
    admin.save()


def deactivate(_: str) -> None:
    User.objects.filter(pk="admin_001").update(is_active=False)


def bar_from_the_site(_: str) -> None:
    User.objects.filter(pk="admin_001").update(is_staff=False)


@pytest.mark.parametrize(
    ("what", "code"),
    [(sign_out, 4005), (expire, 4005), (new_password, 4005), (bar_from_the_site, 4005), (deactivate, 4004)],
)
async def test_socket_closes_when_its_admin_session_ends(server: ThreadServer, what: Any, code: int) -> None:
    cookie, other = await cookie_of("admin_001"), await cookie_of("admin_002")
    async with page(server, cookie) as board, page(server, other) as untouched:
        await sync_to_async(what)(cookie)
        assert await board.expect_close() == code
        await untouched.echo()


async def test_socket_closes_when_superuser_status_is_removed(
    quick_reconciliation: None, server: ThreadServer
) -> None:
    async with page(server, await cookie_of("root"), hospitalId="hospital_001") as board:
        await board.ask("watchBoard", hospitalId="hospital_001")
        await sync_to_async(User.objects.filter(pk="root").update)(
            is_superuser=False, hospital="hospital_002"
        )
        assert await board.expect_close() in (4001, 4005)


async def test_board_connection_does_not_count_as_delivery(server: ThreadServer, settings: Any) -> None:
    settings.UNDELIVERED_AFTER_SECONDS = 0.05
    async with (
        page(server, await cookie_of("admin_001")) as board,
        server.phone("patient_123", "patient") as patient,
    ):
        to_admin = {"receiverId": "admin_001", "hospitalId": "hospital_001"}
        sent = await patient.ask("sendMessage", **to_admin, message="Hello?")
        await board.echo()
        async with server.phone("nurse_001", "nurse", "hospital_001"):  # who gets a later one at once
            later = await patient.ask(
                "sendMessage", **to_admin | {"receiverId": "nurse_001"}, message="Hello!"
            )
            await patient.expect("messageDelivered", messageId=later["data"]["messageId"])
            assert len(patient.heard("messageDelivered")) == 1
        async with server.phone("admin_001", "admin", "hospital_001") as phone:
            await phone.expect("newMessage")
            await patient.expect("messageDelivered", messageId=sent["data"]["messageId"])
