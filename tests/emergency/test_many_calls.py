"""Many calls for help by one person: none is refused, and what they cost others is bounded."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from emergency.call_for_help import request_help
from emergency.due import in_fair_order
from emergency.escalation import BATCH, escalate_due
from emergency.messages import RequestHelp
from emergency.models import Emergency, Entry, RepeatedCall
from emergency.timeline import MAX_TOLD
from hplus.accounts.models import User
from hplus.realtime.models import MailboxEntry
from tests.api import Api
from tests.emergency import guide_frames
from tests.phone import Phone
from tests.servers import ThreadServer

LONG = "x" * 60_000
FRAME_BYTES, FLATTENED_BYTES = 64 * 1024, 128 * 1024


async def _call(phone: Phone, **fields: Any) -> dict[str, Any]:
    answer = await phone.ask("emergencyRequest", **guide_frames.create_emergency_request(**fields))
    assert answer["type"] == "ack", answer
    return {"status": answer["status"], **answer["data"]}


async def test_fourth_call_in_ten_minutes_is_added_to_the_newest_open_one(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("nurse_002", "nurse", "hospital_002") as elsewhere,
    ):
        made = [await _call(patient, condition=f"Pain {number}") for number in range(3)]
        assert [one["status"] for one in made] == ["ok"] * 3
        newest = made[-1]["emergencyId"]
        again = {"condition": "He fell", "description": "and bleeds", "clientMessageId": "again-1"}
        assert await _call(patient, **again) == {"status": "merged", "emergencyId": newest}
        created = [await patient.expect("emergencyCreated") for _ in range(4)]
        assert created[-1]["emergencyId"] == newest
        told = (await nurse.expect("emergencyAmended", emergencyId=newest))["data"]
        assert "He fell: and bleeds" in told["changed"]["description"]["to"]
        assert await _call(patient, **again) == {"status": "duplicate", "emergencyId": newest}
        conflict = await patient.ask(
            "emergencyRequest", **guide_frames.create_emergency_request(clientMessageId="again-1")
        )
        assert conflict["code"] == "IDEMPOTENCY_CONFLICT"
        assert len(nurse.heard("emergencyAlert")) == 3, "no second alert"

        assert (await _call(patient, priority="critical"))["status"] == "merged"
        urgent = guide_frames.alert(await nurse.expect("emergencyAlert", priority="critical"))
        assert urgent["emergencyId"] == newest, "more urgent than before alerts again"
        assert (await _call(patient, hospitalId="hospital_002"))["status"] == "ok", "none is open there"
        guide_frames.alert(await elsewhere.expect("emergencyAlert"))
        for one in made:
            await patient.ask("emergencyStatusUpdate", emergencyId=one["emergencyId"], status="cancelled")
        assert (await _call(patient))["status"] == "ok", "nothing is open, and no call is refused"
    async with Api(server, "doctor_123") as doctor:
        calls = (await doctor.get(f"emergencies/{newest}/calls/")).json()
        assert [one["original"]["condition"] for one in calls["calls"]] == ["Pain 2", "He fell", "Chest pain"]
        first = (await doctor.get(f"emergencies/{newest}/calls/", params={"limit": 1})).json()
        assert (len(first["calls"]), first["hasMore"]) == (1, True)
        after = {"limit": 1, "cursor": first["nextCursor"]}
        second = (await doctor.get(f"emergencies/{newest}/calls/", params=after)).json()
        assert second["calls"] == calls["calls"][1:2]
        assert (await doctor.get(f"emergencies/{newest}/calls/", params={"cursor": "x"})).status_code == 400
    async with Api(server, "doctor_002") as stranger:
        assert (await stranger.get(f"emergencies/{newest}/calls/")).status_code == 404


async def test_staff_may_call_thirty_times_in_ten_minutes(server: ThreadServer) -> None:
    async with server.phone("receptionist_001", "receptionist", "hospital_001") as receptionist:
        statuses = [(await _call(receptionist, patientId=f"p{n}"))["status"] for n in range(31)]
    assert statuses == ["ok"] * 30 + ["merged"]


async def test_75_calls_of_60_000_characters_keep_nobody_from_connecting(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as patient:
        for number in range(75):
            await _call(patient, condition=f"{number} {LONG[:40_000]}", description=LONG[:20_000])
    assert await Emergency.objects.acount() == 3
    assert await RepeatedCall.objects.acount() == 72
    async with (
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("admin_001", "admin", "hospital_001", path="/ws/board/") as admin,
        server.phone("patient_123", "patient") as patient,
    ):
        for phone in (nurse, admin):
            for _ in range(3):
                alert = await phone.expect("emergencyAlert")
                assert len(guide_frames.alert(alert)["condition"]) == 2_000
                assert {"condition", "description"} <= set(alert["data"]["warnings"])
        for phone in (nurse, admin, patient):
            await phone.ask("heartbeat")
            sizes = {frame["type"]: len(json.dumps(frame)) for frame in phone.history}
            assert sizes["connection_established"] < FRAME_BYTES
            assert max(sizes.values()) < FLATTENED_BYTES
    async with Api(server, "doctor_123") as doctor:
        row = await Emergency.objects.order_by("requested_at").afirst()
        assert row is not None
        whole = (await doctor.get(f"emergencies/{row.pk}/calls/")).json()["calls"][0]["original"]
        assert len(whole["condition"]) > 40_000


async def test_long_answer_leaves_shortened_and_is_kept_whole(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        emergency_id = (await _call(patient))["emergencyId"]
        accept = guide_frames.respond(emergency_id, "accept", responseNotes=LONG, estimatedArrival="9 min")
        await nurse.ask("emergencyResponse", data=accept)
        heard = (await doctor.expect("emergencyResponse"))["data"]
        assert (len(heard["responseNotes"]), heard["estimatedArrival"]) == (2_000, "9 min")
        many = {f"k{number}": LONG[:500] for number in range(80)}
        update = guide_frames.update_status(emergency_id, "in_progress", notes=LONG[:9_000], vitals=many)
        await nurse.ask("emergencyStatusUpdate", data=update)
        heard = (await doctor.expect("emergencyStatusUpdate", status="in_progress"))["data"]
        assert (len(heard["notes"]), len(heard["vitals"])) == (4_000, 50)
        assert {len(value) for value in heard["vitals"].values()} == {200}
        assert "vitals" in heard["emergency"]["warnings"]
    entries = {entry.kind: entry.data async for entry in Entry.objects.exclude(kind="alerted")}
    assert entries["responded"]["whole"] == {"responseNotes": LONG}
    assert entries["status"]["whole"]["vitals"] == many


@pytest.mark.usefixtures("transactional_db")
def test_500_calls_of_one_person_make_no_other_escalation_late(users: dict[str, User]) -> None:
    for number in range(500):
        frame = guide_frames.create_emergency_request(condition=f"Call {number}", clientMessageId=str(number))
        assert request_help(users["test_user"], RequestHelp.read(frame)).status != "duplicate"
    assert Emergency.objects.count() == 3
    assert RepeatedCall.objects.count() == 497
    assert Entry.objects.count() < 100
    assert MailboxEntry.objects.count() < 500
    other = guide_frames.create_emergency_request(patientId="patient_123", hospitalId="hospital_002")
    request_help(users["patient_123"], RequestHelp.read(other))
    Emergency.objects.update(escalate_at=timezone.now() - timedelta(seconds=1))
    assert escalate_due() == 4
    assert set(Emergency.objects.values_list("escalation_level", flat=True)) == {1}


def test_due_escalations_are_claimed_one_of_each_hospital_and_requester_first() -> None:
    busy = [(f"a{number}", "hospital_a", "caller_1") for number in range(2_000)]
    rows = [*busy, ("a-other", "hospital_a", "caller_2"), ("b", "hospital_b", "caller_3")]
    first = [pk for pk, *_ in in_fair_order(rows)[:BATCH]]
    assert first[:3] == ["a0", "b", "a-other"]
    assert len(in_fair_order(rows)) == len(rows)


async def test_repeated_answers_and_acknowledgements_are_told_once(
    server: ThreadServer, settings: Any
) -> None:
    settings.HPLUS_ESCALATION_SECONDS = {**dict.fromkeys(("critical", "medium", "low"), 3600), "high": 1}
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        emergency_id = (await _call(patient))["emergencyId"]
        await admin.expect("notification", category="emergencyEscalated")
        for number in range(20):
            reject = guide_frames.respond(emergency_id, "reject", rejectionReason=f"busy {number}")
            assert (await nurse.ask("emergencyResponse", data=reject))["type"] == "ack"
            assert (await admin.ask("emergencyEscalationAck", emergencyId=emergency_id))["type"] == "ack"
        await admin.echo()
        assert len(admin.heard("emergencyResponse")) == 1
        assert len(admin.heard("emergencyEscalationAcked")) == MAX_TOLD
        for number in range(20):
            accept = guide_frames.respond(emergency_id, "accept", estimatedArrival=f"{number} min")
            assert (await nurse.ask("emergencyResponse", data=accept))["type"] == "ack"
        await admin.echo()
        assert len(admin.heard("emergencyResponse")) == MAX_TOLD
        assert (await Emergency.objects.aget()).estimated_arrival == "19 min"
