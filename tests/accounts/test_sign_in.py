"""Signing in over HTTP, staying signed in, and being out again."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

from django.core.management import call_command
from django.utils import timezone

from hplus.accounts import actions
from hplus.accounts.models import Session, Token, User
from hplus.management.commands.seed_demo import PASSWORD
from hplus.realtime.execution.db_threads import in_db_thread
from tests.api import Api, refused
from tests.servers import ThreadServer

HOSPITAL = "hospital_001"


async def test_sign_in_and_refusals(server: ThreadServer) -> None:
    async with Api(server) as http:

        async def sign_in(**body: Any) -> Any:
            return await http.post("auth/token/", json=body)

        answer = await sign_in(userId="doctor_123", password=PASSWORD, deviceId="ward 3")
        tokens = answer.json()
        assert set(tokens) == {"access", "refresh", "expiresAt", "userId", "role", "hospitalId"}
        assert (tokens["userId"], tokens["role"], tokens["hospitalId"]) == ("doctor_123", "doctor", HOSPITAL)
        assert tokens["expiresAt"].endswith("Z")
        patient = (await sign_in(userId="patient_123", password=PASSWORD, deviceId=None)).json()
        assert patient["hospitalId"] is None
        # Only hashes are stored.
        stored = [digest async for digest in Token.objects.values_list("digest", flat=True)]
        assert not {tokens["access"], tokens["refresh"]} & set(stored)
        assert Token.digest_of(tokens["access"]) in stored

        await User.objects.filter(pk="nurse_001").aupdate(is_active=False)
        same = refused(await sign_in(userId="doctor_123", password="wrong"), 401, "AUTHENTICATION_FAILED")
        for user_id in ("nobody", "nurse_001"):
            told = refused(await sign_in(userId=user_id, password=PASSWORD), 401, "AUTHENTICATION_FAILED")
            assert told == same  # whoever it is and whatever is wrong
        for body, field in [
            ({"userId": "doctor_123"}, "password"),
            ({"password": "so secret"}, "userId"),
            ({"userId": 7, "password": "so secret"}, "userId"),
            ({"userId": "doctor_123", "password": ["so secret"]}, "password"),
            ({"userId": "x" * 151, "password": "so secret"}, "userId"),
        ]:
            answer = await sign_in(**body)
            assert refused(answer, 400, "VALIDATION_ERROR")["details"]["field"] == field
            assert "so secret" not in answer.text
        refused(await http.post("auth/token/", data={"userId": "x"}), 415, "INVALID_MESSAGE")
        refused(await http.get("auth/token/"), 405, "INVALID_MESSAGE")

        # What a request shows: nothing, nonsense, a refresh token, another scheme.
        for header in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer nonsense"},
                       {"Authorization": f"Bearer {tokens['refresh']}"},
                       {"Authorization": f"Basic {tokens['access']}"},
                       {"Authorization": b"Bearer \xff\xfe"}):  # fmt: skip
            answer = await http.get("chat/rooms/", headers=header)
            refused(answer, 401, "AUTHENTICATION_FAILED")
            assert answer.headers["www-authenticate"] == "Bearer"
        shown = {"Authorization": f"bearer {tokens['access']}"}
        assert (await http.get("chat/rooms/", headers=shown)).status_code == 200
        await Token.objects.filter(kind="access").aupdate(expires_at=timezone.now())
        refused(await http.get("chat/rooms/", headers=shown), 401, "AUTHENTICATION_FAILED")
        assert await in_db_thread(actions.delete_expired_tokens) == 2


async def test_unusable_session_is_deleted_after_its_time(server: ThreadServer, settings: Any) -> None:
    long_ago = timezone.now() - timedelta(days=settings.SESSION_RETENTION_DAYS + 1)
    async with Api(server, "doctor_123"), Api(server, "doctor_456"):
        [used, unused] = [s async for s in Session.objects.order_by("user_id")]
        await Session.objects.all().aupdate(created_at=long_ago)
        await Token.objects.filter(session=unused).adelete()
        young = await Session.objects.acreate(user_id="nurse_001")
        just_revoked = await Session.objects.acreate(
            user_id="nurse_001", created_at=long_ago, revoked_at=timezone.now()
        )
        assert await in_db_thread(actions.delete_old_sessions) == 1
        left = {session.pk async for session in Session.objects.all()}
        assert left == {used.pk, young.pk, just_revoked.pk}


async def test_reused_refresh_token_ends_the_session(server: ThreadServer) -> None:
    async with Api(server, "doctor_123") as doctor, Api(server, "doctor_123") as tablet:

        async def refresh(secret: str) -> Any:
            return await doctor.post("auth/refresh/", json={"refresh": secret})

        first = doctor.tokens
        second = (await refresh(first["refresh"])).json()
        assert set(second) == set(first)
        assert second["refresh"] != first["refresh"]
        doctor.headers["Authorization"] = f"Bearer {second['access']}"
        assert (await doctor.get("chat/rooms/")).status_code == 200
        third = (await refresh(second["refresh"])).json()
        # The first comes again: somebody has stolen it. Everything of this session is over.
        refused(await refresh(first["refresh"]), 401, "SESSION_REVOKED")
        refused(await refresh(third["refresh"]), 401, "SESSION_REVOKED")
        for tokens in (first, second, third):
            doctor.headers["Authorization"] = f"Bearer {tokens['access']}"
            refused(await doctor.get("chat/rooms/"), 401, "SESSION_REVOKED")
        assert (await tablet.get("chat/rooms/")).status_code == 200  # another session
        refused(await refresh("nonsense"), 401, "AUTHENTICATION_FAILED")
        refused(await refresh(tablet.tokens["access"]), 401, "AUTHENTICATION_FAILED")
        refused(await doctor.post("auth/refresh/", json={}), 400, "VALIDATION_ERROR")
        await Token.objects.filter(kind="refresh").aupdate(expires_at=timezone.now())
        refused(await refresh(tablet.tokens["refresh"]), 401, "AUTHENTICATION_FAILED")
        fresh = await tablet.sign_in()
        await User.objects.filter(pk="doctor_123").aupdate(is_active=False)
        refused(await refresh(fresh["refresh"]), 403, "ACCOUNT_DISABLED")
        refused(await tablet.get("chat/rooms/"), 403, "ACCOUNT_DISABLED")


async def test_sign_out_of_this_another_and_all_devices(
    quick_reconciliation: None, server: ThreadServer
) -> None:
    async with (
        Api(server, "doctor_123") as phone,
        Api(server, "doctor_123") as tablet,
        Api(server, "doctor_123") as admin_client,
        Api(server, "nurse_001") as nurse,
    ):
        await tablet.sign_in(deviceId="tablet")
        await admin_client.sign_in(deviceId="workstation")

        async def is_in(who: Api) -> bool:
            return (await who.get("chat/rooms/")).status_code == 200

        other = await Api(server, "doctor_123").__aenter__()
        await other.sign_in(deviceId="phone")
        live = server.phone("doctor_123", "doctor", HOSPITAL, token=other.tokens["access"])
        async with live:
            assert (await other.post("auth/logout/")).status_code == 204
            assert (await live.expect("error"))["code"] == "SESSION_REVOKED"
            assert await live.expect_close() == 4005
        refused(await other.post("auth/logout/"), 401, "SESSION_REVOKED")
        refused(await other.post("auth/ticket/"), 401, "SESSION_REVOKED")
        assert await is_in(tablet)
        assert (await phone.post("auth/logout/", json={"deviceId": "tablet"})).status_code == 204
        assert [await is_in(who) for who in (phone, tablet, admin_client)] == [False, False, True]
        await phone.sign_in()
        assert (await phone.post("auth/logout/", json={"allDevices": True})).status_code == 204
        assert [await is_in(who) for who in (phone, tablet, admin_client)] == [False, False, False]
        assert await is_in(nurse)
        await other.aclose()


async def test_new_password_ends_old_sessions(server: ThreadServer) -> None:
    """Whichever way it is set; and a sign-in that only renews the hash ends nothing."""

    def by_action() -> None:
        actions.set_password(User.objects.get(pk="doctor_123"), PASSWORD)

    def as_the_admin_site_does() -> None:
        user = User.objects.get(pk="doctor_123")
        user.set_password(PASSWORD)
        user.save()

    def renamed() -> None:
        user = User.objects.get(pk="doctor_123")
        user.check_password(PASSWORD)
        user.name = "Dr. D. Brook"
        user.save()

    async with Api(server, "doctor_123") as doctor, Api(server, "nurse_001") as nurse:
        for change, ends in ((by_action, True), (as_the_admin_site_does, True), (renamed, False)):
            await doctor.sign_in()
            await in_db_thread(change)
            answer = await doctor.get("chat/rooms/")
            if ends:
                refused(answer, 401, "SESSION_REVOKED")
            else:
                assert answer.status_code == 200
        assert (await nurse.get("chat/rooms/")).status_code == 200
        assert await Session.objects.filter(revoked_reason="password changed").acount() == 3


def test_seed_demo_prints_its_password_and_changes_no_other(transactional_db: None, settings: Any) -> None:
    settings.DEBUG = True
    for _ in range(2):  # safe to repeat
        said = io.StringIO()
        call_command("seed_demo", stdout=said)
        assert "Demo data" in said.getvalue()
    assert User.objects.count() == 19
    for user in User.objects.all():
        assert user.check_password(PASSWORD)
        assert user.password not in said.getvalue()
        assert PASSWORD not in user.password
