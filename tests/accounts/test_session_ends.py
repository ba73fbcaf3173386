"""Sessions end: when they are not used, after their longest time, and with the token that opened a socket."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.sessions.models import Session as AdminSession
from django.test import Client
from django.utils import timezone

from hplus.accounts import session_ends
from hplus.accounts.actions import issue_tokens
from hplus.accounts.models import Session, Token, User
from hplus.management.commands.seed_demo import PASSWORD
from hplus.realtime.execution.db_threads import in_db_thread
from tests.admin_site import admin_client_of
from tests.api import Api, refused
from tests.servers import ThreadServer

HOSPITAL = "hospital_001"


async def renew(who: Api, secret: str) -> Any:
    return await who.post("auth/refresh/", json={"refresh": secret})


async def is_in(who: Api, access: str) -> bool:
    answer = await who.get("chat/rooms/", headers={"Authorization": f"Bearer {access}"})
    return answer.status_code == 200


async def test_refresh_whose_answer_got_lost_is_answered_again(server: ThreadServer) -> None:
    async with Api(server, "doctor_123") as doctor:
        first = doctor.tokens["refresh"]
        lost = (await renew(doctor, first)).json()
        again = (await renew(doctor, first)).json()
        assert again == lost
        assert await is_in(doctor, again["access"])  # which proves that it has arrived
        refused(await renew(doctor, first), 401, "SESSION_REVOKED")
        assert not await is_in(doctor, again["access"])


async def test_refresh_again_is_answered_while_the_key_is_changed(
    server: ThreadServer, settings: LazySettings
) -> None:
    async with Api(server, "doctor_123") as doctor:
        lost = (await renew(doctor, doctor.tokens["refresh"])).json()
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "the next key" * 5, [settings.SECRET_KEY]
        assert (await renew(doctor, doctor.tokens["refresh"])).json() == lost


async def test_refresh_again_after_the_new_one_was_used_or_a_minute_later_is_theft(
    server: ThreadServer,
) -> None:
    async with Api(server, "doctor_123") as doctor, Api(server, "nurse_001") as nurse:
        second = (await renew(doctor, doctor.tokens["refresh"])).json()
        assert (await renew(doctor, second["refresh"])).status_code == 200
        refused(await renew(doctor, doctor.tokens["refresh"]), 401, "SESSION_REVOKED")

        first = nurse.tokens["refresh"]
        assert (await renew(nurse, first)).status_code == 200
        long_ago = timezone.now() - timedelta(seconds=61)
        await Token.objects.filter(digest=Token.digest_of(first)).aupdate(used_at=long_ago)
        refused(await renew(nurse, first), 401, "SESSION_REVOKED")


async def test_two_refreshes_at_once_get_one_pair(server: ThreadServer) -> None:
    async with Api(server, "doctor_123") as doctor:
        first = doctor.tokens["refresh"]
        answers = await asyncio.gather(*(renew(doctor, first) for _ in range(4)))
        assert [answer.status_code for answer in answers] == [200] * 4
        assert len({answer.json()["access"] for answer in answers}) == 1
        assert await is_in(doctor, answers[0].json()["access"])


async def test_access_token_ends_with_its_rotation_and_with_its_session(server: ThreadServer) -> None:
    async with Api(server, "doctor_123") as doctor:
        old = doctor.tokens["access"]
        new = (await renew(doctor, doctor.tokens["refresh"])).json()
        answer = await doctor.get("chat/rooms/", headers={"Authorization": f"Bearer {old}"})
        assert refused(answer, 401, "AUTHENTICATION_FAILED")["details"] == {"reason": "expired"}
        phone = await server.phone("doctor_123", "doctor", HOSPITAL, token=old).open()
        error = await phone.expect_error("AUTHENTICATION_FAILED")
        assert error["details"]["reason"] == "expired"
        assert await is_in(doctor, new["access"])
        await Session.objects.filter(user="doctor_123").aupdate(revoked_at=timezone.now())
        assert not await is_in(doctor, new["access"])


async def test_session_ends_at_its_absolute_end_however_often_it_is_renewed(
    server: ThreadServer, settings: LazySettings
) -> None:
    async with Api(server, "doctor_123") as doctor, Api(server, "patient_123") as patient:
        begun = timezone.now() - timedelta(seconds=settings.SESSION_SECONDS["doctor"] - 100)
        await Session.objects.all().aupdate(created_at=begun)
        second = (await renew(doctor, doctor.tokens["refresh"])).json()
        latest = begun + timedelta(seconds=settings.SESSION_SECONDS["doctor"] + 1)
        ends = [row.expires_at async for row in Token.objects.filter(session__user="doctor_123")]
        assert max(at for at in ends if at <= latest) <= latest
        new = [Token.digest_of(second[kind]) for kind in ("access", "refresh")]
        assert all([row.expires_at <= latest async for row in Token.objects.filter(digest__in=new)])
        over = timezone.now() - timedelta(seconds=settings.SESSION_SECONDS["doctor"] + 1)
        await Session.objects.all().aupdate(created_at=over)
        refused(await renew(doctor, second["refresh"]), 401, "AUTHENTICATION_FAILED")
        assert (await renew(patient, patient.tokens["refresh"])).status_code == 200  # another role's end


async def test_idle_end_is_that_of_the_role(server: ThreadServer, settings: LazySettings) -> None:
    settings.SESSION_IDLE_SECONDS = {**settings.SESSION_IDLE_SECONDS, "doctor": 600.0}
    async with Api(server, "doctor_123"), Api(server, "nurse_001"):
        for user_id, seconds in (
            ("doctor_123", 600.0),
            ("nurse_001", settings.SESSION_IDLE_SECONDS["nurse"]),
        ):
            token = await Token.objects.aget(session__user=user_id, kind="refresh")
            left = (token.expires_at - timezone.now()).total_seconds()
            assert seconds - 60 < left <= seconds
        access = await Token.objects.aget(session__user="doctor_123", kind="access")
        assert (access.expires_at - timezone.now()).total_seconds() <= 600


async def test_socket_opened_with_a_ticket_ends_with_the_token_that_asked_for_it(
    server: ThreadServer, settings: LazySettings
) -> None:
    settings.RECONCILE_SECONDS = 0.2
    async with Api(server, "doctor_123") as doctor:
        ticket = (await doctor.post("auth/ticket/")).json()["ticket"]
        async with server.phone("doctor_123", "doctor", HOSPITAL, token=ticket):
            pass
        await Token.objects.filter(kind="access").aupdate(expires_at=timezone.now() + timedelta(seconds=2))
        ticket = (await doctor.post("auth/ticket/")).json()["ticket"]
        phone = server.phone("doctor_123", "doctor", HOSPITAL, token=ticket)
        async with phone:
            error = await phone.expect_error("AUTHENTICATION_FAILED")
            assert error["details"]["reason"] == "expired"
            assert await phone.expect_close() == 4001


async def test_refresh_past_the_end_of_a_session_is_refused_and_issue_too(
    server: ThreadServer, settings: LazySettings
) -> None:
    def issue() -> str:
        user = User.objects.get(pk="nurse_001")
        old = timezone.now() - timedelta(seconds=settings.SESSION_SECONDS["nurse"] + 1)
        try:
            issue_tokens(Session.objects.create(user=user, created_at=old))
        except Exception as refusal:
            return type(refusal).__name__
        return ""

    assert await in_db_thread(issue) == "AuthenticationFailed"


@pytest.mark.usefixtures("users")
def test_admin_session_ends_idle_and_at_its_end(settings: LazySettings) -> None:
    root = Client()
    root.post("/admin/login/", {"username": "root", "password": PASSWORD})
    assert root.get("/admin/accounts/user/").status_code == 200
    [row] = AdminSession.objects.all()
    left = (row.expire_date - timezone.now()).total_seconds()
    assert 60 * settings.HPLUS_ADMIN_IDLE_MINUTES - 60 < left <= 60 * settings.HPLUS_ADMIN_IDLE_MINUTES
    assert root.cookies["sessionid"]["max-age"] == 60 * settings.HPLUS_ADMIN_IDLE_MINUTES
    AdminSession.objects.update(expire_date=timezone.now())
    assert root.get("/admin/accounts/user/").status_code == 302


@pytest.mark.usefixtures("users")
def test_use_moves_the_idle_end_of_the_admin_session_but_not_its_last(settings: LazySettings) -> None:
    root = admin_client_of("root")
    assert root.get("/admin/accounts/user/").status_code == 200

    def set_to(**seconds: float) -> None:
        session = root.session
        for name, ago in seconds.items():
            session[name] -= ago
        session.save()

    set_to(seen_at=session_ends.SEEN_EVERY_SECONDS)
    AdminSession.objects.update(expire_date=timezone.now() + timedelta(seconds=30))
    assert root.get("/admin/accounts/user/").status_code == 200
    [row] = AdminSession.objects.all()
    assert row.expire_date > timezone.now() + timedelta(seconds=120)
    set_to(began_at=settings.SESSION_SECONDS["admin"] + 1)
    assert root.get("/admin/accounts/user/").status_code == 302
    assert not AdminSession.objects.exists()
