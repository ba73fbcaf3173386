"""A set of observations on the socket: what stays of the earlier one, and who is told of a worse score."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from emergency.models import Emergency, Entry
from emergency.observations import observe
from hplus.accounts.models import User
from tests.emergency import guide_frames
from tests.emergency.test_news2 import NORMAL
from tests.phone import Phone
from tests.servers import ThreadServer


async def _taken(patient: Phone, crew: Phone, **given: Any) -> str:
    """The emergencyId of a call that the crew has accepted."""
    request = guide_frames.create_emergency_request(**given)
    emergency_id = str((await patient.ask("emergencyRequest", data=request))["data"]["emergencyId"])
    await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
    return emergency_id


async def _measure(crew: Phone, emergency_id: str, vitals: dict[str, Any]) -> dict[str, Any]:
    """The emergency as the crew reads it after this set."""
    update = guide_frames.update_status(emergency_id, "in_progress", vitals=vitals)
    assert (await crew.ask("emergencyStatusUpdate", data=update))["type"] == "ack"
    heard = await crew.expect("emergencyStatusUpdate", vitals=vitals)
    return guide_frames.emergency_request(heard["data"]["emergency"])


async def test_unreadable_value_takes_the_earlier_reading_away(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
    ):
        emergency_id = await _taken(patient, crew)
        full = (await _measure(crew, emergency_id, NORMAL))["news2"]
        assert (full["score"], full["band"], full["complete"]) == (0, "low", True)
        assert full["observedBy"] == "paramedic_456"
        arrest = {"systolic": "unrecordable", "spo2": "no trace", "consciousness": "GCS 8", "pulse": None}
        seen = await _measure(crew, emergency_id, arrest)
        assert (seen["news2"]["band"], seen["news2"]["complete"]) == (None, False)
        for name in arrest:
            assert seen["news2"]["parameters"][name] is None
        assert seen["warnings"] == ["vitals.systolic", "vitals.spo2", "vitals.consciousness"]
        assert (await _measure(crew, emergency_id, NORMAL | {"pulse": 71}))["news2"]["complete"] is True


async def test_readings_of_another_set_do_not_complete_a_score(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
    ):
        emergency_id = await _taken(patient, crew, vitals=NORMAL)
        seen = await _measure(crew, emergency_id, {"hr": 88})
        assert (seen["news2"]["score"], seen["news2"]["band"], seen["news2"]["complete"]) == (0, None, False)
        assert "pulse" not in seen["vitals"], "the newer key names the same reading"
        assert seen["vitals"]["hr"] == 88


@pytest.mark.usefixtures("transactional_db")
def test_readings_older_than_an_hour_are_not_scored(users: dict[str, User]) -> None:
    now, crew = timezone.now(), users["paramedic_456"]
    row = Emergency.objects.create(
        hospital_id="hospital_001", patient_id="p", lat=1, lng=1, condition="x", priority="low",
        requested_by=users["patient_123"], requested_by_role="patient", requested_at=now,
    )  # fmt: skip
    hours_ago = now - timedelta(minutes=61)
    observed = observe(row, crew, NORMAL, hours_ago)
    Entry.objects.create(emergency=row, kind="vitals", at=hours_ago, by=crew, data=observed)
    assert row.news2 is not None
    assert row.news2["complete"] is True
    shown = row.current_news2(now)
    assert shown is not None
    assert (shown["band"], shown["complete"]) == (None, False), "too old to be called complete"
    observe(row, crew, {"pulse": 140}, now)
    assert row.readings == {"pulse": 140}


async def test_worse_score_is_told_to_the_assignee_and_the_doctors(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("doctor_002", "doctor", "hospital_002") as elsewhere,
    ):
        emergency_id = await _taken(patient, crew)
        await _measure(crew, emergency_id, NORMAL)
        await _measure(crew, emergency_id, {**NORMAL, "pulse": 95})
        await _measure(crew, emergency_id, {**NORMAL, "pulse": 135})
        await _measure(crew, emergency_id, {**NORMAL, "pulse": 136})
        await _measure(crew, emergency_id, {**NORMAL, "pulse": 135, "spo2": 91})
        await _measure(crew, emergency_id, {**NORMAL, "pulse": 72})
        for phone in (patient, crew, doctor, nurse):
            await phone.echo()
        await elsewhere.ask("joinHospital", hospitalId="hospital_002")
        for phone in (crew, doctor):
            notices = [each for each in phone.heard("notification") if each["category"] == "deteriorating"]
            assert [(each["priority"], each["data"]["emergencyId"]) for each in notices] == [
                ("urgent", emergency_id)
            ] * 2
            assert [each["data"]["news2"]["score"] for each in notices] == [3, 6]
        for phone in (patient, nurse, elsewhere):
            assert not phone.heard("notification")


@pytest.mark.parametrize(
    ("known", "reason"), [({"patientAge": "8 years"}, "age"), ({"isPregnant": True}, "pregnancy")]
)
async def test_child_or_pregnant_patient_has_no_score(
    server: ThreadServer, known: dict[str, Any], reason: str
) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        request = guide_frames.create_emergency_request(vitals=NORMAL, **known)
        await patient.ask("emergencyRequest", data=request)
        seen = guide_frames.alert(await nurse.expect("emergencyAlert"))
        score = {"score": None, "band": None, "complete": False, "notApplicable": reason}
        assert seen["news2"].items() >= score.items()
        assert (seen["patientAge"], seen["isPregnant"]) == ((8, None) if reason == "age" else (None, True))


async def test_unreadable_age_never_stops_a_call(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as patient:
        request = guide_frames.create_emergency_request(patientAge="old", patientSex=4, isPregnant="maybe")
        await patient.send("emergencyRequest", data=request)
        made = (await patient.expect("emergencyCreated"))["data"]
        assert (made["patientAge"], made["patientSex"], made["isPregnant"]) == (None, None, None)
        assert made["warnings"] == ["patientAge", "patientSex", "isPregnant"]
