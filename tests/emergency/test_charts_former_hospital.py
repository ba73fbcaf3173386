"""A hospital that gave an emergency away keeps what there was until then, and nothing of what comes after."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async

from emergency.call_for_help import request_help
from emergency.messages import RequestHelp
from emergency.models import Emergency, EntryKind, HospitalPart, HospitalPolicy
from emergency.mutual_aid import keep_part
from hplus.accounts.models import User
from hplus.audit.models import Record, Verb
from hplus.protocol.wire import encode
from hplus.realtime.models import MailboxEntry
from tests.admin_site import admin_client_of
from tests.emergency import guide_frames
from tests.emergency.test_mutual_aid import aid, ask_for_aid, respond
from tests.phone import Phone
from tests.servers import ThreadServer
from tests.stories.test_charts import SECRET, call, http_of, readings

__all__ = ["aid"]
THERE = "intubated in the other hospital"
PARTS = "/admin/emergency/hospitalpart/"


def seen(phone: Phone) -> str:
    return encode({"frames": phone.history}).decode()


async def _transferred(nurse: Phone, helper: Phone, emergency_id: str) -> None:
    fields = {"emergencyId": emergency_id, "toHospitalId": "hospital_002", "reason": "burns unit"}
    assert (await nurse.ask("emergencyTransfer", **fields))["type"] == "ack"
    assert (await respond(helper, emergency_id))["type"] == "ack"


async def _taken_over(nurse: Phone, helper: Phone, emergency_id: str) -> None:
    await ask_for_aid(emergency_id)
    await helper.expect("emergencyAlert", emergencyId=emergency_id)
    assert (await respond(helper, emergency_id))["type"] == "ack"


async def _treat_there(helper: Phone, emergency_id: str) -> None:
    chart = {"phase": "onScene", "notes": THERE, "vitals": {"pulse": 140}}
    assert (await helper.ask("emergencyStatusUpdate", emergencyId=emergency_id, **chart))["type"] == "ack"


@pytest.mark.parametrize("give_away", [_transferred, _taken_over])
@pytest.mark.usefixtures("aid")
async def test_former_hospital_is_shown_entries_up_to_when_it_gave_the_emergency_away(
    server: ThreadServer, give_away: Any
) -> None:
    async with (
        server.phone("doctor_123", "doctor", "hospital_001") as caller,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("doctor_002", "doctor", "hospital_002") as helper,
    ):
        emergency_id = await call(caller, patientId="walk_in_1", patientName="Robin Vale")
        await nurse.expect("emergencyAlert", emergencyId=emergency_id)
        change = {"changes": {"description": "allergic to latex"}, "reason": "told by the family"}
        async with server.phone("admin_001", "admin", "hospital_001") as admin:
            assert (await admin.ask("emergencyAmend", emergencyId=emergency_id, **change))["type"] == "ack"
        amended = await caller.expect("emergencyAmended")
        assert amended["data"]["emergency"]["description"] == "allergic to latex", "with the chart until then"
        await give_away(nurse, helper, emergency_id)
        await _treat_there(helper, emergency_id)
        arrived = (await caller.expect("emergencyStatusUpdate", phase="onScene"))["data"]
        assert (arrived["notes"], arrived["vitals"], arrived["emergency"]["vitals"]) == (None, None, None)
        guide_frames.emergency_request(arrived["emergency"])
        await nurse.echo()
        for phone in (caller, nurse):
            assert THERE not in seen(phone)
        epoch = caller.established["epoch"]
    http = http_of(server, "doctor_123")
    shown = http.get(f"/api/emergencies/{emergency_id}/")
    assert (shown.status_code, shown.json()["vitals"], shown.json()["description"]) == (200, None, None)
    [listed] = http.get("/api/emergencies/").json()["emergencies"]
    assert (listed["vitals"], listed["phase"]) == (None, "onScene")
    assert http.get(f"/api/emergencies/{emergency_id}/timeline/").status_code == 403
    assert await readings("doctor_123") == [], "the own call, without the chart"
    assert http_of(server, "nurse_001").get(f"/api/emergencies/{emergency_id}/").status_code == 404
    later = MailboxEntry.objects.filter(user="doctor_123", event_type="emergencyStatusUpdate")
    newest = await later.alatest("seq")
    assert newest.subject.endswith("~c")
    await later.filter(seq=newest.seq).aupdate(subject=newest.subject.removesuffix("~c"))
    async with server.phone("doctor_123", "doctor", "hospital_001", since=0, epoch=epoch) as caller:
        await caller.expect("emergencyStatusUpdate", phase="onScene")
        await caller.echo()
        assert THERE not in seen(caller), "also of an entry that was written with the chart"
        assert "allergic to latex" in seen(caller), "what was before is kept"
    async with server.phone("nurse_001", "nurse", "hospital_001", since=0, epoch=epoch) as nurse:
        await nurse.expect("emergencyAlert", emergencyId=emergency_id)
        await nurse.echo()
        assert THERE not in seen(nurse)
        last = [
            frame
            for frame in nurse.history
            if frame["type"] in ("emergencyResponse", "emergencyStatusUpdate")
        ]
        assert last[-1]["data"]["emergency"]["hospitalId"] == "hospital_002", "who has it now"


@pytest.mark.parametrize("give_away", [_transferred, _taken_over])
@pytest.mark.usefixtures("aid")
async def test_part_ends_with_the_entry_that_gave_the_emergency_away(
    server: ThreadServer, give_away: Any
) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("doctor_002", "doctor", "hospital_002") as helper,
    ):
        emergency_id = await call(patient)
        await give_away(nurse, helper, emergency_id)
        await _treat_there(helper, emergency_id)
    part = http_of(server, "doctor_123").get(f"/api/emergencies/{emergency_id}/part/").json()
    assert part["entries"][-1]["kind"] == "transferred"
    of_part = [each for entry in part["entries"] for each in entry["data"].get("userIds", [])]
    is_asked = give_away is _taken_over
    assert any(user_id.endswith("_002") for user_id in of_part) == is_asked, "whom the other alerted"
    assert THERE not in str(part)


@sync_to_async
def part_readings() -> list[tuple[str, str, str, dict[str, str]]]:
    rows = Record.objects.filter(verb=Verb.READ, details__surface__startswith="part").order_by("number")
    return [(row.actor_id, row.hospital_id, row.details["surface"], row.details["whose"]) for row in rows]


async def test_part_is_read_by_the_roles_of_the_policy_and_each_reading_is_recorded(
    server: ThreadServer,
) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("doctor_002", "doctor", "hospital_002") as helper,
    ):
        emergency_id = await call(patient)
        await _transferred(nurse, helper, emergency_id)
    path = f"/api/emergencies/{emergency_id}/part/"
    statuses = {
        who: http_of(server, who).get(path).status_code
        for who in ("doctor_123", "admin_001", "technician_001", "root", "doctor_002", "patient_123")
    }
    assert statuses == {
        "doctor_123": 200, "admin_001": 200, "technician_001": 403, "root": 200, "doctor_002": 404,
        "patient_123": 404,
    }  # fmt: skip
    whose = {emergency_id: "patient_123"}
    assert await part_readings() == [
        (who, "hospital_001", "part", whose) for who in ("doctor_123", "admin_001", "root")
    ]
    page = f"{PARTS}{(await HospitalPart.objects.aget()).pk}/change/"
    admin_client = await sync_to_async(admin_client_of)("admin_001")
    get = sync_to_async(admin_client.get)
    assert SECRET in (await get(page)).content.decode()
    assert (await part_readings())[-1] == ("admin_001", "hospital_001", "part page", whose)
    recorded = len(await part_readings())
    await HospitalPolicy.objects.acreate(hospital_id="hospital_001", chart_roles=["doctor"])
    assert http_of(server, "admin_001").get(path).status_code == 403
    assert (await get(page)).status_code == 302
    assert emergency_id not in (await get(PARTS)).content.decode()
    assert len(await part_readings()) == recorded
    root = await sync_to_async(admin_client_of)("root")
    assert SECRET in (await sync_to_async(root.get)(page)).content.decode()


def test_parts_readable_by_a_role_are_those_of_the_own_hospital(users: dict[str, User]) -> None:
    request_help(users["patient_123"], RequestHelp.read(guide_frames.TEST_EMERGENCY))
    emergency = Emergency.objects.get()
    entry = emergency.entries.get(kind=EntryKind.REQUESTED)
    keep_part(emergency, "hospital_001", entry.pk, entry.at)
    readers = {name: HospitalPart.objects.readable_by(user).count() for name, user in users.items()}
    assert {name for name, count in readers.items() if count} == {
        "doctor_123", "doctor_456", "nurse_001", "paramedic_456", "paramedic_789", "admin_001", "root",
    }  # fmt: skip
