"""Who is let in, and who has to leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest
from pytest_django import Settings

from hplus.accounts.models import Role, Session, User
from hplus.management.commands.seed_demo import PASSWORD
from hplus.realtime.execution.db_threads import in_db_thread
from tests.fault_report import note
from tests.phone import Phone
from tests.servers import Endpoint, ProcessServer, ThreadServer, reconciled
from tests.waiting import PATIENCE_SECONDS

DOCTOR = {"userId": "doctor_123", "role": "doctor", "hospitalId": "hospital_001"}


@pytest.fixture
def locked(server: ThreadServer, settings: Settings) -> ThreadServer:
    """As in production: a name alone opens nothing."""
    settings.HPLUS_DEMO = False
    settings.REFUSED_SOCKET_SECONDS = 0.1  # there are many here
    return server


async def sign_in(server: Endpoint, user_id: str) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        answer = await client.post(
            f"{server.url}/api/auth/token/", json={"userId": user_id, "password": PASSWORD}
        )
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def post(server: Endpoint, path: str, token: str, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(headers=headers, timeout=PATIENCE_SECONDS) as client:
        return await client.post(f"{server.url}/api/auth/{path}/", json=body)


async def refused(server: Endpoint, code: str, close_code: int, **query: Any) -> None:
    phone = await Phone(f"ws://127.0.0.1:{server.port}", **query).open()
    await phone.expect_error(code)
    assert await phone.expect_close() == close_code
    assert phone.types() == []
    note("false identity at the handshake", let_in=len(phone.heard("connection_established")))


async def test_forged_query_does_not_override_the_token(locked: ThreadServer) -> None:
    token = (await sign_in(locked, "doctor_123"))["access"]
    async with Phone(f"ws://127.0.0.1:{locked.port}", **DOCTOR, token=token) as phone:
        assert phone.established["userId"] == "doctor_123"
    for other in (
        {"userId": "doctor_456"},
        {"role": "admin"},
        {"role": "patient", "hospitalId": None},
        {"hospitalId": "hospital_002"},
    ):
        await refused(locked, "AUTHENTICATION_FAILED", 4001, **DOCTOR | other, token=token)


async def test_only_an_intact_unexpired_access_token_is_accepted(
    locked: ThreadServer, settings: Settings
) -> None:
    tokens = await sign_in(locked, "doctor_123")
    whole = tokens["access"]
    for token in (whole[:-1], whole + "A", whole.swapcase(), tokens["refresh"], "x", "' OR 1=1 --", "\ud7ff"):
        await refused(locked, "AUTHENTICATION_FAILED", 4001, **DOCTOR, token=token)
    settings.ACCESS_TOKEN_SECONDS = 0
    expired = (await sign_in(locked, "doctor_123"))["access"]
    await refused(locked, "AUTHENTICATION_FAILED", 4001, **DOCTOR, token=expired)
    await post(locked, "logout", whole)
    await refused(locked, "SESSION_REVOKED", 4005, **DOCTOR, token=whole)


async def test_ticket_is_accepted_once(locked: ThreadServer) -> None:
    access = (await sign_in(locked, "doctor_123"))["access"]
    first, ticket = [(await post(locked, "ticket", access)).json()["ticket"] for _ in range(2)]
    assert (await post(locked, "ticket", first)).status_code == 401
    await refused(locked, "AUTHENTICATION_FAILED", 4001, **DOCTOR, token=first)
    async with Phone(f"ws://127.0.0.1:{locked.port}", **DOCTOR, token=ticket):
        pass
    await refused(locked, "AUTHENTICATION_FAILED", 4001, **DOCTOR, token=ticket)


async def test_handshake_without_token_is_refused(locked: ThreadServer, settings: Settings) -> None:
    settings.LOGIN_SECONDS = 0.3
    await refused(locked, "AUTHENTICATION_FAILED", 4001, **DOCTOR)
    settings.LOGIN_SECONDS = 10 * PATIENCE_SECONDS  # what follows is refused for what it says
    other = (await sign_in(locked, "doctor_456"))["access"]
    for first in (
        {"type": "sendMessage"},
        {"type": "login", "token": "x"},
        {"type": "login", "token": other},
    ):
        phone = await Phone(f"ws://127.0.0.1:{locked.port}", **DOCTOR).open()
        await phone.send(**first)
        await phone.expect_error("AUTHENTICATION_FAILED")
        assert await phone.expect_close() == 4001


async def test_login_never_changes_the_user_of_a_socket(locked: ThreadServer) -> None:
    mine, other = [(await sign_in(locked, name))["access"] for name in ("doctor_123", "doctor_456")]
    phone = await Phone(f"ws://127.0.0.1:{locked.port}", **DOCTOR, token=mine).open()
    await phone.expect("connection_established")
    await phone.send("login", token=other)
    await phone.expect_error("AUTHENTICATION_FAILED")
    assert await phone.expect_close() == 4001


async def test_refresh_token_used_twice_ends_the_session(locked: ThreadServer) -> None:
    tokens = await sign_in(locked, "doctor_123")
    first = await post(locked, "refresh", "", refresh=tokens["refresh"])
    assert first.status_code == 200
    again = await post(locked, "refresh", "", refresh=tokens["refresh"])
    assert again.json() == first.json()  # the first answer may have been lost
    second = await post(locked, "refresh", "", refresh=first.json()["refresh"])
    assert second.status_code == 200
    assert (await post(locked, "refresh", "", refresh=tokens["refresh"])).status_code == 401
    await refused(locked, "SESSION_REVOKED", 4005, **DOCTOR, token=first.json()["access"])


def revoke(user: User) -> None:
    Session.objects.filter(user=user).revoke("a phone was stolen")


def deactivate(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def demote(user: User) -> None:
    User.objects.filter(pk=user.pk).update(role=Role.TECHNICIAN)


def move(user: User) -> None:
    User.objects.filter(pk=user.pk).update(hospital="hospital_002")


TAKEN_AWAY: list[tuple[str, str, Callable[[User], None], str, int]] = [
    ("doctor_123", "doctor", revoke, "SESSION_REVOKED", 4005),
    ("doctor_456", "doctor", deactivate, "ACCOUNT_DISABLED", 4004),
    ("nurse_001", "nurse", demote, "AUTHENTICATION_FAILED", 4001),
    ("paramedic_456", "paramedic", move, "AUTHENTICATION_FAILED", 4001),
]


async def test_withdrawn_access_closes_sockets_on_every_process_within_five_seconds(
    locked: ThreadServer, users: dict[str, User]
) -> None:
    """Also while a connection without an identity waits for its login; the others stay."""
    with ProcessServer(HPLUS_DEMO="0") as other:
        places = (locked, other)
        silent = [await Phone(f"ws://127.0.0.1:{place.port}", **DOCTOR).open() for place in places]
        stays = [await signed_in(place, "nurse_002", "nurse", "hospital_002") for place in places]
        await asyncio.gather(*(_is_put_out(places, users, *taken) for taken in TAKEN_AWAY))
        for phone in stays:
            await phone.echo()
            await phone.hang_up()
        for phone in silent:
            await phone.vanish()


async def _is_put_out(
    places: Sequence[Endpoint],
    users: dict[str, User],
    user_id: str,
    role: str,
    change: Callable[[User], None],
    code: str,
    close_code: int,
) -> None:
    phones = [await signed_in(place, user_id, role) for place in places]
    await in_db_thread(change, users[user_id])
    closes = (reconciled(place, phone.expect_close()) for place, phone in zip(places, phones, strict=True))
    codes = await asyncio.gather(*closes)
    note("access taken away while connected", let_in=sum(code != close_code for code in codes))
    assert codes == [close_code, close_code], user_id
    for phone in phones:
        await phone.expect_error(code)


async def signed_in(server: Endpoint, user_id: str, role: str, hospital_id: str = "hospital_001") -> Phone:
    token = (await sign_in(server, user_id))["access"]
    who = {"userId": user_id, "role": role, "hospitalId": hospital_id}
    return await Phone(f"ws://127.0.0.1:{server.port}", **who, token=token).__aenter__()


async def test_renewed_socket_ends_with_the_session_of_its_new_token(
    quick_reconciliation: None, locked: ThreadServer
) -> None:
    old, new = [(await sign_in(locked, "doctor_123"))["access"] for _ in range(2)]
    phone = await Phone(f"ws://127.0.0.1:{locked.port}", **DOCTOR, token=old).open()
    await phone.expect("connection_established")
    await phone.send("login", token=new)
    await phone.expect("loginSuccess")
    await post(locked, "logout", new)
    await phone.expect_error("SESSION_REVOKED")
    assert await phone.expect_close() == 4005
