"""Who is let in, who is told why not, and who has to go."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest
import websockets
from django.utils import timezone
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode

from hplus.accounts import actions
from hplus.accounts.models import Hospital, Session, Token, User
from hplus.realtime.execution.db_threads import in_db_thread
from tests.api import Api
from tests.phone import Phone
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS

HOSPITAL = "hospital_001"


@pytest.fixture
def quick(settings: Any, quick_reconciliation: None) -> Any:
    """Nobody waits a whole second for a close; to be named before `server`."""
    settings.REFUSED_SOCKET_SECONDS = 0.05
    return settings


@pytest.fixture
def unreconciled(settings: Any) -> None:
    """No server reconciles during the test; to be named before `server`."""
    settings.RECONCILE_SECONDS = 10 * PATIENCE_SECONDS


async def refusal(phone: Phone) -> tuple[str, int]:
    """The code of the one error before the close, and the close code."""
    try:
        await phone.open()
        error = await phone.expect("error")
        assert error["message"]
        assert (error["requestType"], error["requestId"]) == (None, None)
        code = await phone.expect_close()
        assert [frame["type"] for frame in phone.history] == ["error"]
    finally:
        await phone.hang_up()
    return error["code"], code


async def test_handshake_errors_are_checked_in_this_order(quick: Any, server: ThreadServer) -> None:
    """userId, role, hospital where the role is staff, whether there is one, and then who it is."""
    url = f"ws://127.0.0.1:{server.port}/"
    doctor = {"userId": "doctor_123", "role": "doctor", "hospitalId": HOSPITAL}
    cases: list[tuple[dict[str, str], tuple[str, int]]] = [
        ({}, ("AUTHENTICATION_FAILED", 4001)),
        ({"role": "surgeon"}, ("AUTHENTICATION_FAILED", 4001)),
        ({"userId": "", "role": "patient"}, ("AUTHENTICATION_FAILED", 4001)),
        ({"userId": "  ", "role": "patient"}, ("AUTHENTICATION_FAILED", 4001)),
        ({"userId": "x" * 151, "role": "patient"}, ("AUTHENTICATION_FAILED", 4001)),
        ({"userId": "a\x00b", "role": "patient"}, ("AUTHENTICATION_FAILED", 4001)),
        ({"userId": "doctor_123"}, ("INVALID_ROLE", 4002)),
        ({"userId": "doctor_123", "role": ""}, ("INVALID_ROLE", 4002)),
        ({"userId": "doctor_123", "role": "Doctor"}, ("INVALID_ROLE", 4002)),
        ({"userId": "doctor_123", "role": "surgeon"}, ("INVALID_ROLE", 4002)),
        ({"userId": "doctor_123", "role": "doctor"}, ("MISSING_HOSPITAL_ID", 4003)),
        ({**doctor, "hospitalId": ""}, ("MISSING_HOSPITAL_ID", 4003)),
        ({**doctor, "hospitalId": "hospital_999"}, ("HOSPITAL_NOT_FOUND", 4007)),
        ({**doctor, "hospitalId": "a\x00b"}, ("AUTHENTICATION_FAILED", 4001)),
        ({"userId": "p", "role": "patient", "hospitalId": "hospital_999"}, ("HOSPITAL_NOT_FOUND", 4007)),
        ({**doctor, "hospitalId": "hospital_999", "token": "wrong"}, ("HOSPITAL_NOT_FOUND", 4007)),
        ({**doctor, "token": "wrong"}, ("AUTHENTICATION_FAILED", 4001)),
        ({**doctor, "role": "nurse"}, ("AUTHENTICATION_FAILED", 4001)),
        ({**doctor, "hospitalId": "hospital_002"}, ("AUTHENTICATION_FAILED", 4001)),
        ({**doctor, "role": "patient"}, ("AUTHENTICATION_FAILED", 4001)),
    ]
    seen = await asyncio.gather(*(refusal(Phone(url, **query)) for query, _ in cases))
    assert [(query, told) for (query, _), told in zip(cases, seen, strict=True)] == cases

    broken = Phone(f"{url}?userId=%FF%FE&role=patient")
    assert await refusal(broken) == ("AUTHENTICATION_FAILED", 4001)
    # A patient may name a hospital or none, whatever it was yesterday.
    for hospital in (None, HOSPITAL, "hospital_002"):
        async with server.phone("patient_123", "patient", hospital) as patient:
            assert patient.established["hospitalId"] == hospital


async def test_demo_user_keeps_role_and_hospital_of_its_first_use(quick: Any, server: ThreadServer) -> None:
    odd = "Ünïcode & co. ?=#/%20+ 救急"
    async with server.phone(odd, "nurse", HOSPITAL) as nurse:
        assert nurse.established["userId"] == odd
    assert (await User.objects.aget(pk=odd)).hospital_id == HOSPITAL
    assert await refusal(server.phone(odd, "nurse", "hospital_002")) == ("AUTHENTICATION_FAILED", 4001)
    assert await refusal(server.phone(odd, "doctor", HOSPITAL)) == ("AUTHENTICATION_FAILED", 4001)
    async with server.phone(odd, "nurse", HOSPITAL):
        pass


async def test_token_decides_identity_over_the_query(quick: Any, server: ThreadServer) -> None:
    quick.HPLUS_DEMO = False
    async with Api(server, "doctor_123") as doctor:
        access = doctor.tokens["access"]
        in_header = Phone(
            f"ws://127.0.0.1:{server.port}/",
            {"Authorization": f"Bearer {access}"},
            userId="doctor_123",
            role="doctor",
            hospitalId=HOSPITAL,
        )
        async with in_header, server.phone("doctor_123", "doctor", HOSPITAL, token=access) as phone:
            assert phone.established["userId"] == in_header.established["userId"] == "doctor_123"
        for who in [
            ("doctor_456", "doctor", HOSPITAL),
            ("doctor_123", "nurse", HOSPITAL),
            ("doctor_123", "doctor", "hospital_002"),
        ]:
            foreign = await refusal(server.phone(*who, token=access))
            assert foreign == ("AUTHENTICATION_FAILED", 4001)
        for wrong in ("x", access[:-1], doctor.tokens["refresh"]):
            told = await refusal(server.phone("doctor_123", "doctor", HOSPITAL, token=wrong))
            assert told == ("AUTHENTICATION_FAILED", 4001)
        await Token.objects.filter(kind="access").aupdate(expires_at=timezone.now())
        expired = await refusal(server.phone("doctor_123", "doctor", HOSPITAL, token=access, deviceId="late"))
        assert expired == ("AUTHENTICATION_FAILED", 4001)


async def test_ticket_is_valid_for_one_handshake(quick: Any, server: ThreadServer) -> None:
    quick.HPLUS_DEMO = False
    async with Api(server, "doctor_123") as doctor:
        ticket = (await doctor.post("auth/ticket/")).json()["ticket"]
        async with server.phone("doctor_123", "doctor", HOSPITAL, token=ticket) as phone:
            await phone.echo()
        used = await refusal(server.phone("doctor_123", "doctor", HOSPITAL, token=ticket))
        assert used == ("AUTHENTICATION_FAILED", 4001)
        quick.TICKET_SECONDS = 0
        late = (await doctor.post("auth/ticket/")).json()["ticket"]
        expired = await refusal(server.phone("doctor_123", "doctor", HOSPITAL, token=late))
        assert expired == ("AUTHENTICATION_FAILED", 4001)
        # It is no access token.
        answer = await doctor.get("chat/rooms/", headers={"Authorization": f"Bearer {ticket}"})
        assert answer.status_code == 401


async def test_login_as_first_message_is_accepted(quick: Any, server: ThreadServer) -> None:
    quick.HPLUS_DEMO = False

    def phone(**query: Any) -> Phone:
        given = {"user_id": "doctor_123", "role": "doctor", "hospital_id": HOSPITAL, **query}
        return server.phone(**given)

    async def refused_after(first: str | bytes, **query: Any) -> tuple[str, int]:
        caller = await phone(**query).open()
        await caller.send_text(first)
        error = await caller.expect("error")
        return error["code"], await caller.expect_close()

    async with Api(server, "doctor_123") as doctor, Api(server, "nurse_001") as nurse:
        access, foreign = doctor.tokens["access"], nurse.tokens["access"]
        late = await phone().open()
        await late.send(
            "login",
            token=access,
            deviceId="ward 3",
            pushToken=None,
            platform="Android 14 (Pixel 8 Pro)",
            requestId="l1",
        )
        told = await late.expect("loginSuccess")
        ack = await late.expect("ack", requestId="l1")
        assert (ack["requestType"], ack["status"], ack["data"]) == ("login", "ok", None)
        assert {key: told[key] for key in ("userId", "role", "hospitalId")} == {
            "userId": "doctor_123",
            "role": "doctor",
            "hospitalId": HOSPITAL,
        }
        assert told["expiresAt"] == doctor.tokens["expiresAt"]
        late.established = await late.expect("connection_established")
        await late.echo()
        await late.hang_up()

        wrong = await phone().open()
        await wrong.send("login", token="wrong", requestId="l2")
        error = await wrong.expect_error("AUTHENTICATION_FAILED")
        assert (error["requestType"], error["requestId"]) == ("login", "l2")
        assert await wrong.expect_close() == 4001

        login = '{"type":"login","token":"%s"}'
        failed = ("AUTHENTICATION_FAILED", 4001)
        assert await refused_after(login % foreign) == failed
        assert await refused_after(login % access, hospital_id="hospital_002") == failed
        assert await refused_after(login % access, role="nurse") == failed
        assert await refused_after(login % "wrong") == failed
        assert await refused_after('{"type":"login"}') == failed
        assert await refused_after('{"type":"heartbeat"}') == failed
        assert await refused_after("nonsense") == failed
        assert await refused_after(b"\x00") == failed
        quick.LOGIN_SECONDS = 0.1
        silent = await phone().open()
        assert (await silent.expect("error"))["code"] == "AUTHENTICATION_FAILED"
        assert await silent.expect_close() == 4001
        quick.LOGIN_SECONDS = 10 * PATIENCE_SECONDS
        gone = await phone().open()
        await gone.hang_up()

        await in_db_thread(actions.set_password, await User.objects.aget(pk="doctor_123"), "another one")
        assert await refused_after(login % access) == ("SESSION_REVOKED", 4005)
        await User.objects.filter(pk="nurse_001").aupdate(is_active=False)
        disabled = await refused_after(login % foreign, user_id="nurse_001", role="nurse")
        assert disabled == ("ACCOUNT_DISABLED", 4004)


async def test_login_on_a_live_socket_renews_its_token(quick: Any, server: ThreadServer) -> None:
    quick.HPLUS_DEMO = False
    async with Api(server, "doctor_123") as doctor, Api(server, "nurse_001") as nurse:
        first = doctor.tokens["access"]
        async with (
            server.phone("doctor_123", "doctor", HOSPITAL, token=first) as phone,
            server.phone("doctor_123", "doctor", HOSPITAL, token=first) as forgetful,
            server.phone("doctor_123", "doctor", HOSPITAL, token=first) as mistaken,
        ):
            for blank in (None, "", "  "):
                await phone.send("login", token=blank, requestId=f"r{blank}")
                error = await phone.expect_error("VALIDATION_ERROR", requestId=f"r{blank}")
                assert error["details"]["field"] == "token"
            await doctor.sign_in()  # a new session
            assert (await phone.ask("login", token=doctor.tokens["access"]))["status"] == "ok"
            assert (await phone.expect("loginSuccess"))["expiresAt"] == doctor.tokens["expiresAt"]
            # The first token runs out: only the socket that renewed itself stays.
            digest = Token.digest_of(first)
            old = await Token.objects.aget(digest=digest)
            await mistaken.send("login", token=nurse.tokens["access"])
            assert (await mistaken.expect("error"))["code"] == "AUTHENTICATION_FAILED"
            assert await mistaken.expect_close() == 4001
            await in_db_thread(_revoke, old.session_id)
            assert (await forgetful.expect("error"))["code"] == "SESSION_REVOKED"
            assert await forgetful.expect_close() == 4005
            await phone.echo()
            # And it goes with its new session.
            await in_db_thread(actions.set_password, await User.objects.aget(pk="doctor_123"), "another one")
            assert (await phone.expect("error"))["code"] == "SESSION_REVOKED"
            assert await phone.expect_close() == 4005


def _revoke(session_id: Any) -> None:
    Session.objects.filter(pk=session_id).revoke("for the test")


async def test_expired_token_closes_its_sockets(quick: Any, server: ThreadServer) -> None:
    """With the shortest lifetime that is long enough to connect in."""
    async with Api(server, "doctor_123") as doctor:
        for quick.ACCESS_TOKEN_SECONDS in (0.25, 1, 5, PATIENCE_SECONDS):
            token = (await doctor.sign_in())["access"]
            phone = await server.phone("doctor_123", "doctor", HOSPITAL, token=token).open()
            assert (await phone.expect("error"))["code"] == "AUTHENTICATION_FAILED"
            assert await phone.expect_close() == 4001
            if phone.heard("connection_established"):
                return
    raise AssertionError("it expired before anybody was connected")


async def test_logout_of_one_device_and_of_all_closes_their_sockets(
    unreconciled: None, server: ThreadServer
) -> None:
    async with (
        Api(server, "doctor_123") as doctor,
        server.phone("doctor_123", "doctor", HOSPITAL, token=doctor.tokens["access"]) as phone,
        server.phone("doctor_123", "doctor", HOSPITAL) as by_name,
        server.phone("nurse_001", "nurse", HOSPITAL) as nurse,
    ):
        async with server.phone("doctor_123", "doctor", HOSPITAL) as short:
            await short.send("logout", requestId="bye", deviceId=None)
            await short.expect("logoutSuccess")
            assert (await short.expect("ack", requestId="bye"))["requestType"] == "logout"
            assert await short.expect_close() == 1000
        await by_name.echo()
        await phone.send("logout", allDevices=True)
        await phone.expect("logoutSuccess")
        assert await phone.expect_close() == 1000
        assert (await by_name.expect("error"))["code"] == "SESSION_REVOKED"
        assert await by_name.expect_close() == 4005
        await nurse.echo()
        told = await refusal(
            server.phone("doctor_123", "doctor", HOSPITAL, token=doctor.tokens["access"], deviceId="x")
        )
        assert told == ("SESSION_REVOKED", 4005)
        assert (await doctor.get("chat/rooms/")).json()["code"] == "SESSION_REVOKED"


async def test_deactivated_user_is_closed_and_refused(quick: Any, server: ThreadServer) -> None:
    async with (
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
        server.phone("doctor_456", "doctor", HOSPITAL) as colleague,
        server.phone("nurse_001", "nurse", HOSPITAL) as nurse,
    ):
        await User.objects.filter(pk="doctor_123").aupdate(is_active=False)
        await User.objects.filter(pk="nurse_001").aupdate(hospital_id="hospital_002")
        assert (await doctor.expect("error"))["code"] == "ACCOUNT_DISABLED"
        assert await doctor.expect_close() == 4004
        assert await refusal(server.phone("doctor_123", "doctor", HOSPITAL)) == ("ACCOUNT_DISABLED", 4004)
        # Who changes the hospital must come in again: the socket listens to the old one's staff.
        assert (await nurse.expect("error"))["code"] == "AUTHENTICATION_FAILED"
        assert await nurse.expect_close() == 4001
        await colleague.echo()


async def test_origin_of_another_host_is_refused_and_no_origin_accepted(
    quick: Any, server: ThreadServer
) -> None:
    url = f"ws://127.0.0.1:{server.port}/"
    who = {"userId": "patient_123", "role": "patient"}
    quick.ALLOWED_HOSTS = ["*", "app.example"]
    for origin in (f"http://127.0.0.1:{server.port}", "https://app.example", "https://app.example:8443"):
        async with Phone(url, {"Origin": origin}, **who):
            pass
    for origin in ("https://evil.example", "null", "https://app.example.evil.example", "http://127.0.0.1:1"):
        with pytest.raises(websockets.InvalidStatus) as refused:
            await Phone(url, {"Origin": origin}, **who).open()
        assert refused.value.response.status_code == 403


async def test_joinHospital_by_role_and_hospital(server: ThreadServer) -> None:
    await Hospital.objects.filter(pk="hospital_002").aupdate(is_on_diversion=True)
    async with (
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
        server.phone("patient_123", "patient") as patient,
    ):
        await doctor.send("joinHospital", hospitalId=HOSPITAL)
        joined = await doctor.expect("hospitalJoined")
        assert joined == {
            "type": "hospitalJoined",
            "hospitalId": HOSPITAL,
            "data": {"name": "Riverside General", "onDiversion": False},
        }
        await doctor.send("joinHospital", hospitalId="hospital_002")
        await doctor.expect_error("HOSPITAL_MISMATCH")
        await doctor.send("joinHospital", hospitalId="nowhere")
        await doctor.expect_error("HOSPITAL_MISMATCH")
        await patient.send("joinHospital", data={"hospitalId": "hospital_002"})
        assert (await patient.expect("hospitalJoined"))["data"]["onDiversion"] is True
        await patient.send("joinHospital", hospitalId="nowhere")
        await patient.expect_error("HOSPITAL_NOT_FOUND")  # in a message: no close
        await patient.ask("joinHospital", hospitalId=HOSPITAL)
        assert patient.close_code is None


async def test_no_secret_is_logged_or_echoed(
    quick: Any, server: ThreadServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with Api(server, "doctor_123") as doctor:
        access = doctor.tokens["access"]
        async with server.phone("doctor_123", "doctor", HOSPITAL, token=access) as phone:
            await phone.ask(
                "sendMessage", receiverId="patient_123", hospitalId=HOSPITAL, message="so private"
            )
        await refusal(server.phone("doctor_456", "doctor", HOSPITAL, token=access))
        wrong = await doctor.post("auth/token/", json={"userId": "doctor_123", "password": "so secret"})
        assert "so secret" not in wrong.text
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as anybody:
        await anybody.get(f"{server.url}/api/chat/rooms/?token={access}")
    logged = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith("http"))
    assert "connected as doctor" in logged
    for secret in (access, doctor.tokens["refresh"], "so private", "so secret", "hplus-demo"):
        assert secret not in logged


async def test_oversized_handshake_is_answered_at_once(server: ThreadServer) -> None:
    for length in (12_000, 60_000):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"GET /?userId=" + b"x" * length + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        heard = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)  # up to the end: it is closed, too
        assert heard.split()[1] == b"414"
        writer.close()


async def test_frames_in_the_same_segment_as_the_handshake_are_processed(server: ThreadServer) -> None:
    """In order, and also where a proxy or an impatient client puts all of them into one segment."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    frame_texts = [
        b'{"type":"joinHospital","hospitalId":"hospital_001","requestId":"r%d"}' % n for n in range(3)
    ]
    writer.write(
        b"GET /?userId=patient_123&role=patient HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        + b"".join(WebSocketFrame(Opcode.TEXT, frame_text).serialize(mask=True) for frame_text in frame_texts)
    )
    heard = await asyncio.wait_for(reader.readuntil(b'"requestId":"r2"'), PATIENCE_SECONDS)
    places = [
        heard.index(frame_text) for frame_text in (b"connection_established", b'"r0"', b'"r1"', b'"r2"')
    ]
    assert places == sorted(places)
    writer.close()
