"""Who is there, who is told, and who is not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from chat import actions as chat
from hplus.accounts.models import User
from hplus.realtime.execution.db_threads import in_db_thread
from hplus.realtime.hub import expiry
from hplus.realtime.models import Connection, Presence, ServerProcess
from tests import dart
from tests.phone import Phone
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS, until

HOSPITAL = "hospital_001"


def seen(phone: Phone, user_id: str) -> list[tuple[str, str]]:
    """What this phone has heard of somebody's presence."""
    return [
        (frame["type"], frame["status"])
        for frame in phone.history
        if frame["type"] in ("userOnline", "userOffline") and frame["userId"] == user_id
    ]


async def test_staff_presence_goes_to_staff_of_the_hospital_only(server: ThreadServer) -> None:
    async with (
        server.phone("nurse_001", "nurse", HOSPITAL) as nurse,
        server.phone("nurse_002", "nurse", "hospital_002") as foreign,
        server.phone("patient_123", "patient", HOSPITAL) as patient,
    ):
        await patient.send("joinHospital", hospitalId=HOSPITAL)
        await patient.expect("hospitalJoined")
        async with server.phone("doctor_123", "doctor", HOSPITAL) as doctor:
            online = await nurse.expect("userOnline", userId="doctor_123")
            dart.read(online)
            assert {key: online[key] for key in ("role", "hospitalId", "status")} == {
                "role": "doctor",
                "hospitalId": HOSPITAL,
                "status": "available",
            }
            for status in ("busy", "away"):
                await doctor.ask("userOnline", status=status)
            await nurse.expect("userOnline", status="busy")
            await nurse.expect("userOnline", status="away")
            # Who came meanwhile has not heard it: it may be said again.
            async with server.phone("nurse_001", "nurse", HOSPITAL) as late:
                await doctor.ask("userOnline", status="away")
                await late.expect("userOnline", userId="doctor_123", status="away")
            async with server.phone("doctor_123", "doctor", HOSPITAL) as second:
                await second.echo()
            await doctor.echo()  # one screen closed: still there, still away
            await doctor.ask("userOffline")
            assert (await nurse.expect("userOffline"))["status"] == "offline"
            await doctor.ask("userOnline")
            await nurse.expect("userOnline", status="available")
        offline = await nurse.expect("userOffline")  # a clean goodbye: at once
        dart.read(offline)
        expected = ["available", "busy", "away", "away", "offline", "available", "offline"]
        assert [status for _, status in seen(nurse, "doctor_123")] == expected
        for other in (foreign, patient):
            await other.echo()
            assert not seen(other, "doctor_123")
        assert not seen(nurse, "nurse_002")
        assert not seen(nurse, "patient_123")


async def test_patient_presence_goes_to_staff_of_a_shared_room_only(server: ThreadServer) -> None:
    users = await User.objects.ain_bulk()
    await in_db_thread(chat.open_room, users["patient_123"], "doctor_123", HOSPITAL)
    async with (
        server.phone("doctor_123", "doctor", HOSPITAL) as partner,
        server.phone("doctor_456", "doctor", HOSPITAL) as colleague,
        server.phone("test_user", "patient") as other,
    ):
        async with server.phone("patient_123", "patient") as patient:
            online = await partner.expect("userOnline", userId="patient_123")
            assert (online["role"], online["hospitalId"]) == ("patient", None)
            await patient.send("joinChatRoom", receiverId="doctor_123", hospitalId=HOSPITAL)
            assert (await patient.expect("chatRoomJoined"))["data"]["peer"]["online"] is True
            # The patient hears of the partner's comings and goings in turn, and of nobody else's.
            await partner.ask("userOnline", status="busy")
            await patient.expect("userOnline", userId="doctor_123", status="busy")
            await colleague.ask("userOnline", status="busy")
            await partner.expect("userOnline", userId="doctor_456", status="busy")
            await patient.echo()
            assert not seen(patient, "doctor_456")
        await partner.expect("userOffline", userId="patient_123")
        for stranger in (colleague, other):
            await stranger.echo()
            assert not seen(stranger, "patient_123")


async def test_reconnect_within_the_grace_publishes_no_presence(server: ThreadServer, settings: Any) -> None:
    settings.PRESENCE_GRACE_SECONDS = 10 * PATIENCE_SECONDS

    async def grace_is(begun: bool) -> None:
        who = Presence.objects.filter(user="doctor_123", offline_due_at__isnull=not begun)
        await until(who.aexists)

    async with (
        server.phone("nurse_001", "nurse", HOSPITAL) as nurse,
        server.phone("doctor_456", "doctor", HOSPITAL) as other,
    ):
        first = await server.phone("doctor_123", "doctor", HOSPITAL).__aenter__()
        await nurse.expect("userOnline", userId="doctor_123")
        await first.vanish()
        await grace_is(begun=True)
        second = await server.phone("doctor_123", "doctor", HOSPITAL).__aenter__()
        await grace_is(begun=False)
        # Somebody else does not come back, and what else was due has been done with it.
        settings.PRESENCE_GRACE_SECONDS = 0
        await other.vanish()
        await nurse.expect("userOffline", userId="doctor_456")
        assert len(seen(nurse, "doctor_123")) == 1
        # The second time nobody comes back.
        await second.vanish()
        assert (await nurse.expect("userOffline"))["userId"] == "doctor_123"
        assert not await Connection.objects.filter(user="doctor_123").aexists()
        assert len(seen(nurse, "doctor_123")) == 2


async def test_users_of_a_dead_server_become_offline(server: ThreadServer, settings: Any) -> None:
    settings.PRESENCE_GRACE_SECONDS = 0
    dead = await ServerProcess.objects.acreate(host="gone", pid=1, seen_at=timezone.now())
    for user_id in ("doctor_123", "doctor_456"):
        await Connection.objects.acreate(
            server=dead, user_id=user_id, role="doctor", hospital=HOSPITAL, address="127.0.0.1"
        )
        await Presence.objects.acreate(user_id=user_id, status="available")
    async with (
        server.phone("doctor_456", "doctor", HOSPITAL) as alive,
        server.phone("nurse_001", "nurse", HOSPITAL) as nurse,
    ):
        long_ago = timezone.now() - timedelta(seconds=60)
        await ServerProcess.objects.filter(pk=dead.pk).aupdate(seen_at=long_ago)
        await in_db_thread(expiry.expire_dead_servers)
        gone = await nurse.expect("userOffline")
        assert (gone["userId"], gone["status"]) == ("doctor_123", "offline")
        await alive.echo()
        await alive.ask("userOnline", status="busy")
        await nurse.expect("userOnline", userId="doctor_456")
        assert ("userOffline", "offline") not in seen(nurse, "doctor_456")
        assert await Connection.objects.acount() == 2


async def test_server_wrongly_expired_registers_its_users_again(
    quick_reconciliation: None, server: ThreadServer, settings: Any
) -> None:
    """Its process was frozen for a while; its sockets never noticed."""
    settings.PRESENCE_GRACE_SECONDS = 0
    async with (
        server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
        server.phone("nurse_001", "nurse", HOSPITAL) as nurse,
    ):
        await in_db_thread(_take_for_dead)
        await nurse.expect("userOffline", userId="doctor_123")
        back = await nurse.expect("userOnline", userId="doctor_123")
        assert back["status"] == "available"
        assert await Connection.objects.filter(user="doctor_123").aexists()
        assert (await Presence.objects.aget(pk="doctor_123")).offline_due_at is None
        await doctor.echo()


@transaction.atomic
def _take_for_dead() -> None:
    ServerProcess.objects.all().delete()
    expiry.expire_dead_servers()
    assert all(expiry._expire_one(user_id) for user_id in ("doctor_123", "nurse_001"))
