"""Notices on three devices: for a person, a role, a department, a hospital; read, missed and caught up."""

from __future__ import annotations

from typing import Any

import httpx
from pytest_django.fixtures import Settings

from hplus.notifications.models import Notification
from hplus.push.models import PushDevice, PushOutbox
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS

ROUND = {"title": "Ward round", "body": "At nine on ward 3."}
HOSPITAL = "hospital_001"


def bearer(server: ThreadServer, user_id: str, **more: str) -> dict[str, str]:
    body = {"userId": user_id, "password": "hplus-demo", **more}
    answer = httpx.post(f"{server.url}/api/auth/token/", json=body, timeout=PATIENCE_SECONDS)
    return {"Authorization": f"Bearer {answer.json()['access']}"}


def listed(server: ThreadServer, user_id: str, query: str = "") -> dict[str, Any]:
    answer = httpx.get(
        f"{server.url}/api/notifications/{query}", headers=bearer(server, user_id), timeout=PATIENCE_SECONDS
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_notification_to_user_role_and_department_reaches_them_only(server: ThreadServer) -> None:
    async with (
        server.phone("nurse_001", "nurse", HOSPITAL) as nurse,
        server.phone("doctor_123", "doctor", HOSPITAL) as emergency_doctor,
        server.phone("doctor_456", "doctor", HOSPITAL) as cardiologist,
        server.phone("doctor_002", "doctor", "hospital_002") as stranger,
    ):
        answer = await nurse.ask("notification", target={"userId": "doctor_123"}, **ROUND, data={"ward": "3"})
        assert (answer["status"], answer["data"]) == ("ok", {"recipients": 1})
        notice = await emergency_doctor.expect("notification")
        row = await Notification.objects.aget()
        assert notice == {
            "type": "notification",
            "notificationId": row.pk,
            "category": "general",
            "title": "Ward round",
            "body": "At nine on ward 3.",
            "priority": "normal",
            "data": {"ward": "3"},
            "timestamp": row.sent_at.isoformat().replace("+00:00", "Z"),
            "seq": notice["seq"],
            "eventId": notice["eventId"],
        }

        # All fields under `data`, as the guide's client writes some of its frames.
        await nurse.send(
            "notification",
            data={"target": {"role": "doctor"}, **ROUND, "priority": "urgent", "data": {"ward": "4"}},
        )
        for doctor in (emergency_doctor, cardiologist):
            assert (await doctor.expect("notification", priority="urgent"))["data"] == {"ward": "4"}

        answer = await nurse.ask(
            "notification", target={"department": "Cardiology"}, **ROUND, category="rota"
        )
        assert answer["data"] == {"recipients": 1}
        await cardiologist.expect("notification", category="rota")

        for phone in (nurse, emergency_doctor, stranger):
            await phone.echo()
        assert not nurse.heard("notification")
        assert not stranger.heard("notification")
        assert len(emergency_doctor.heard("notification")) == 2


async def test_hospital_notification_reaches_staff_and_joined_patients(
    server: ThreadServer,
) -> None:
    async with (
        server.phone("admin_001", "admin", HOSPITAL) as admin,
        server.phone("paramedic_456", "paramedic", HOSPITAL) as paramedic,
        server.phone("patient_123", "patient") as listening,
        server.phone("test_user", "patient") as elsewhere,
        server.phone("nurse_002", "nurse", "hospital_002") as stranger,
    ):
        await listening.ask("joinHospital", hospitalId=HOSPITAL)
        await paramedic.ask("joinHospital", hospitalId=HOSPITAL)
        await elsewhere.ask("joinHospital", hospitalId="hospital_002")
        answer = await admin.ask(
            "notification", target={"hospitalId": HOSPITAL}, **ROUND, category="visiting"
        )
        assert answer["data"] == {"recipients": 8}

        entry = await paramedic.expect("notification", category="visiting")
        announced = await listening.expect("notification", category="visiting")
        stamps = {"seq", "eventId"}
        assert announced.keys() | stamps == entry.keys()
        assert not stamps & announced.keys()
        for name in ("title", "body", "priority", "data"):
            assert announced[name] == entry[name]
        # A patient who marks what was only passing by is not answered with a dialog.
        marked = await listening.ask(
            "notification", action="markRead", notificationId=announced["notificationId"]
        )
        assert marked["data"] == {"notificationId": announced["notificationId"], "unreadCount": 0}

        for phone in (admin, elsewhere, stranger, listening):
            await phone.ask("joinHospital", hospitalId=phone.established["hospitalId"] or "hospital_002")
        assert len(paramedic.heard("notification")) == 1
        for phone in (admin, elsewhere, stranger):
            assert not phone.heard("notification")


async def test_notification_without_permission_is_refused_and_not_sent(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", HOSPITAL) as nurse,
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
        server.phone("doctor_002", "doctor", "hospital_002") as stranger,
    ):
        refused = [
            (patient, {"userId": "doctor_123"}, "FORBIDDEN"),
            (nurse, {"hospitalId": HOSPITAL}, "FORBIDDEN"),
            (nurse, {"hospitalId": "hospital_002"}, "HOSPITAL_MISMATCH"),
            (nurse, {"role": "doctor", "hospitalId": "hospital_002"}, "HOSPITAL_MISMATCH"),
            (nurse, {"userId": "doctor_002"}, "USER_NOT_FOUND"),
            (nurse, {"userId": "nobody"}, "USER_NOT_FOUND"),
            (nurse, {"userId": "patient_123"}, "USER_NOT_FOUND"),
            (nurse, {"role": "patient"}, "VALIDATION_ERROR"),
            (nurse, {}, "VALIDATION_ERROR"),
        ]
        for phone, target, code in refused:
            answer = await phone.ask("notification", target=target, **ROUND)
            assert (answer["type"], answer.get("code")) == ("error", code), target
        assert not await Notification.objects.aexists()

        # The same nurse may, where there is a right.
        await nurse.send("notification", target={"role": "doctor"}, **ROUND)
        await doctor.expect("notification")
        await stranger.echo()
        assert not stranger.heard("notification")


async def test_patient_gets_notification_once_a_room_is_shared(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("receptionist_001", "receptionist", HOSPITAL) as receptionist,
        server.phone("receptionist_002", "receptionist", "hospital_002") as stranger,
    ):
        notice = {"target": {"userId": "patient_123"}, "title": "Your ECG", "body": "Today at 14:30."}
        assert (await receptionist.ask("notification", **notice))["code"] == "USER_NOT_FOUND"
        await patient.ask("joinChatRoom", receiverId="doctor_123", hospitalId=HOSPITAL)

        assert (await stranger.ask("notification", **notice))["code"] == "USER_NOT_FOUND"
        assert (await receptionist.ask("notification", **notice))["data"] == {"recipients": 1}
        assert (await patient.expect("notification"))["title"] == "Your ECG"
        await patient.echo()
        assert len(patient.heard("notification")) == 1


async def test_missed_notifications_are_replayed_and_marked_as_read(server: ThreadServer) -> None:
    async with server.phone("doctor_123", "doctor", HOSPITAL) as doctor:
        since, epoch = doctor.established["lastSeq"], doctor.established["epoch"]
    async with (
        server.phone("nurse_001", "nurse", HOSPITAL) as nurse,
        server.phone("doctor_456", "doctor", HOSPITAL) as colleague,
    ):
        for number in (1, 2, 3):
            await nurse.ask("notification", target={"role": "doctor"}, title=f"No. {number}", body="")
        async with server.phone("doctor_123", "doctor", HOSPITAL, since=since, epoch=epoch) as doctor:
            assert doctor.established["recovered"] is True
            missed = [await doctor.expect("notification") for _ in range(3)]
            assert [notice["title"] for notice in missed] == ["No. 1", "No. 2", "No. 3"]
            assert [notice["seq"] for notice in missed] == [since + 1, since + 2, since + 3]

            first = missed[0]["notificationId"]
            for _ in range(2):
                marked = await doctor.ask("notification", action="markRead", notificationId=first)
                assert (marked["type"], marked["data"]["unreadCount"]) == ("ack", 2)
            foreign = await colleague.ask("notification", action="markRead", notificationId=first)
            missing = await colleague.ask("notification", action="markRead", notificationId="no-such")
            for answer in (foreign, missing):
                assert (answer["code"], answer["message"], answer["details"]) == (
                    "MESSAGE_NOT_FOUND",
                    "There is no such notification.",
                    {"field": "notificationId"},
                )
    inbox = listed(server, "doctor_123")
    assert [(n["title"], n["readAt"] is not None) for n in inbox["notifications"]] == [
        ("No. 3", False),
        ("No. 2", False),
        ("No. 1", True),
    ]
    assert inbox["unreadCount"] == 2
    assert listed(server, "doctor_456")["unreadCount"] == 3


async def test_marking_a_message_notification_gets_no_error(server: ThreadServer) -> None:
    async with (
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
        server.phone("patient_123", "patient") as patient,
    ):
        await doctor.ask("joinChatRoom", receiverId="nurse_001", hospitalId=HOSPITAL)
        await patient.send("sendMessage", receiverId="doctor_123", hospitalId=HOSPITAL, message="Hello")
        notice = await doctor.expect("notification", category="message")
        marked = await doctor.ask("notification", action="markRead", notificationId=notice["notificationId"])
        assert marked["type"] == "ack"


async def test_push_wakes_a_logged_in_phone_and_not_after_logout(
    server: ThreadServer,
) -> None:
    headers = bearer(server, "doctor_123", deviceId="pixel")
    token = headers["Authorization"].removeprefix("Bearer ")
    async with server.phone("nurse_001", "nurse", HOSPITAL) as nurse:
        async with server.phone("doctor_123", "doctor", HOSPITAL) as doctor:
            await doctor.send("login", token=token, pushToken="of-the-pixel", platform="android")
            await doctor.expect("loginSuccess")
            await nurse.ask("notification", target={"userId": "doctor_123"}, **ROUND)
            await doctor.expect("notification")
            assert not await PushOutbox.objects.aexists()
        device = await PushDevice.objects.aget()
        assert (device.user_id, device.device_id, device.platform) == ("doctor_123", "pixel", "android")

        await nurse.expect("userOffline", userId="doctor_123")
        other_hospital = await nurse.ask(
            "notification", target={"userId": "doctor_123"}, **ROUND, category="rota"
        )
        assert other_hospital["data"] == {"recipients": 1}
        missed = await Notification.objects.aget(category="rota")
        assert (await PushOutbox.objects.aget(subject=missed.pk)).category == "rota"

        async with server.phone("doctor_123", "doctor", HOSPITAL, token=token) as doctor:
            await doctor.send("logout")
            await doctor.expect("logoutSuccess")
            assert await doctor.expect_close() == 1000
        await nurse.ask("notification", target={"userId": "doctor_123"}, **ROUND, category="late")
        assert await Notification.objects.filter(category="late").acount() == 1
        assert not await PushOutbox.objects.filter(category="late").aexists()


async def test_first_login_registers_the_device_for_its_own_user_only(
    server: ThreadServer, settings: Settings
) -> None:
    settings.HPLUS_DEMO, settings.REFUSED_SOCKET_SECONDS = False, 0.05
    token = bearer(server, "doctor_123")["Authorization"].removeprefix("Bearer ")
    request = {"token": token, "deviceId": "pixel", "pushToken": "of-the-pixel"}
    thief = await server.phone("doctor_456", "doctor", HOSPITAL).open()
    await thief.send("login", **request)
    await thief.expect_error("AUTHENTICATION_FAILED")
    assert await thief.expect_close() == 4001
    assert not await PushDevice.objects.aexists()

    doctor = await server.phone("doctor_123", "doctor", HOSPITAL).open()
    await doctor.send("login", **request)
    await doctor.expect("connection_established")
    device = await PushDevice.objects.aget()
    assert (device.user_id, device.device_id, device.token) == ("doctor_123", "pixel", "of-the-pixel")
    await doctor.hang_up()
