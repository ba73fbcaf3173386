"""When nobody comes: on time, once, and also when the server was down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from emergency.call_for_help import request_help
from emergency.escalation import escalate_due
from emergency.messages import RequestHelp
from emergency.models import Alert, Emergency, Entry, HospitalPolicy
from emergency.status import Status
from hplus.accounts.models import User
from hplus.notifications.models import Notification
from tests.emergency import guide_frames
from tests.phone import Phone
from tests.servers import ProcessServer, ThreadServer

SOON = {"critical": 1, "high": 1, "medium": 600, "low": 600}


@asynccontextmanager
async def staff(server: Any, *roles: str) -> AsyncIterator[list[Phone]]:
    async with AsyncExitStack() as stack:
        phones = [server.phone(f"{role}_001", role, "hospital_001") for role in roles]
        yield [await stack.enter_async_context(phone) for phone in phones]


def must_escalate_after(seconds: int, row: Emergency, began_at: datetime) -> None:
    assert row.escalate_at is not None
    assert began_at <= row.escalate_at - timedelta(seconds=seconds) <= timezone.now()


async def test_escalation_alerts_all_staff_then_admins_repeatedly(
    server: ThreadServer, settings: Any
) -> None:
    settings.HPLUS_ESCALATION_SECONDS = SOON
    async with (
        server.phone("patient_123", "patient") as patient,
        staff(server, "nurse", "technician", "admin") as (nurse, technician, admin),
        server.phone("technician_002", "technician", "hospital_002") as elsewhere,
    ):
        await patient.send("emergencyRequest", data=guide_frames.create_emergency_request())
        first = guide_frames.alert(await nurse.expect("emergencyAlert"))
        assert first["escalationLevel"] == 0
        assert not technician.heard("emergencyAlert")
        widened = guide_frames.alert(await technician.expect("emergencyAlert"))
        assert (widened["emergencyId"], widened["escalationLevel"]) == (first["emergencyId"], 1)
        notice = await admin.expect("notification", category="emergencyEscalated")
        assert (notice["priority"], notice["data"]["emergencyId"]) == ("urgent", first["emergencyId"])
        await admin.expect("notification", category="emergencyEscalated")
        accepted = await nurse.ask(
            "emergencyResponse", data=guide_frames.respond(first["emergencyId"], "accept")
        )
        assert accepted["type"] == "ack"
        for phone in (nurse, technician, admin):
            await phone.echo()
            assert len(phone.heard("emergencyAlert")) == 1, "one alert, through escalations"
        count = len(admin.heard("notification"))
        async with staff(server, "nurse") as (screen,):
            await screen.echo()
            assert not screen.heard("emergencyAlert"), "somebody has it"
        row = await Emergency.objects.aget()
        assert (row.escalate_at, row.escalation_level) == (None, 2)
        escalations = [entry async for entry in Entry.objects.filter(kind="escalated")]
        assert len(escalations) == count + 1
        assert escalations[0].at - row.requested_at >= timedelta(seconds=SOON["high"])
        began_at = timezone.now()
        await patient.ask("emergencyRequest", data=guide_frames.create_emergency_request(priority="low"))
        must_escalate_after(SOON["low"], await Emergency.objects.aget(priority="low"), began_at)
        await elsewhere.ask("joinHospital", hospitalId="hospital_002")
        assert not elsewhere.heard("emergencyAlert")
        told = patient.heard("notification")
        assert {notice["category"] for notice in told} == {"emergencyUnanswered"}, "at level 2, no more"
        assert len(told) == 1


async def test_staff_who_connect_during_an_emergency_are_alerted_once_per_screen(
    server: ThreadServer,
) -> None:
    async with server.phone("patient_123", "patient") as patient:
        await patient.ask("emergencyRequest", data=guide_frames.create_emergency_request())
    async with (
        server.phone("nurse_new", "nurse", "hospital_001") as new,
        server.phone("nurse_new", "nurse", "hospital_001") as second_screen,
        staff(server, "technician") as (technician,),
    ):
        for screen in (new, second_screen):
            guide_frames.alert(await screen.expect("emergencyAlert"))
            await screen.echo()
            assert len(screen.heard("emergencyAlert")) == 1
        await technician.echo()
        assert not technician.heard("emergencyAlert"), "not called at this level"
    await Emergency.objects.aupdate(escalation_level=1)
    async with staff(server, "technician") as (technician,):
        guide_frames.alert(await technician.expect("emergencyAlert"))
    assert await Alert.objects.filter(user="nurse_new").acount() == 1


async def test_alert_roles_of_the_hospital_are_alerted_first(server: ThreadServer) -> None:
    await HospitalPolicy.objects.acreate(
        hospital_id="hospital_001", alert_roles=["technician"], escalation_seconds={"low": 700}
    )
    async with (
        server.phone("patient_123", "patient") as patient,
        staff(server, "nurse", "technician") as (nurse, technician),
    ):
        began_at = timezone.now()
        await patient.ask("emergencyRequest", data=guide_frames.create_emergency_request(priority="low"))
        guide_frames.alert(await technician.expect("emergencyAlert"))
        await nurse.echo()
        assert not nurse.heard("emergencyAlert")
    must_escalate_after(700, await Emergency.objects.aget(), began_at)


@pytest.mark.usefixtures("transactional_db")
def test_escalation_happens_once_with_several_workers(users: dict[str, User]) -> None:
    """Six workers at the same moment, five emergencies that are due."""
    for number in range(5):
        request = guide_frames.create_emergency_request(patientId=f"p{number}")
        request_help(users["nurse_001"], RequestHelp.read(request))
    Emergency.objects.update(escalate_at=timezone.now() - timedelta(hours=1))

    def work(_: int) -> int:
        try:
            return escalate_due()
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as workers:
        done = list(workers.map(work, range(6)))
    assert sum(done) == 5
    assert set(Emergency.objects.values_list("escalation_level", flat=True)) == {1}
    assert Entry.objects.filter(kind="escalated").count() == 5
    assert not Notification.objects.filter(category="emergencyEscalated").exists()


async def test_escalation_due_during_a_restart_happens_after_it(users: dict[str, User]) -> None:
    """The server is killed while the escalation is pending, and nobody is there."""
    seconds = "critical=600,high=600,medium=600,low=600"
    with ProcessServer(None, HPLUS_ESCALATION_SECONDS=seconds) as server:
        async with server.phone("patient_123", "patient") as patient:
            await patient.ask(
                "emergencyRequest", data=guide_frames.create_emergency_request(priority="critical")
            )
        server.kill()
        assert (await Emergency.objects.aget()).escalation_level == 0
        await Emergency.objects.aupdate(escalate_at=timezone.now())  # in the time without a server
        server.start()
        async with staff(server, "technician") as (technician,):
            widened = guide_frames.alert(await technician.expect("emergencyAlert"))
            assert widened["escalationLevel"] == 1
        assert await Entry.objects.filter(kind="escalated").acount() == 1
    assert (await Emergency.objects.aget()).status == Status.PENDING
