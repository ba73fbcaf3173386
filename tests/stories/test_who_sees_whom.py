"""Staff see the patient, the patient sees the assignee; what is replayed is what may be read now."""

from __future__ import annotations

from typing import Any

from hplus.accounts.models import User
from hplus.protocol.wire import encode
from hplus.realtime.models import MailboxEntry
from tests.emergency import guide_frames
from tests.phone import Phone
from tests.servers import ThreadServer
from tests.stories.test_charts import SECRET, call, http_of


async def respond(phone: Phone, emergency_id: str, action: str, **fields: Any) -> dict[str, Any]:
    return await phone.ask("emergencyResponse", data=guide_frames.respond(emergency_id, action, **fields))


def seen(phone: Phone) -> str:
    """Everything that has come, as text."""
    return encode({"frames": phone.history}).decode()


async def test_patient_sees_the_assignee_and_nothing_of_the_others_who_were_called(
    server: ThreadServer,
) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
    ):
        async with server.phone("nurse_001", "nurse", "hospital_001") as nurse:
            emergency_id = await call(patient)
            await nurse.expect("emergencyAlert")
            await nurse.send("userOnline", status="busy")
            await crew.expect("userOnline", userId="nurse_001", status="busy")
            await patient.send("userOnline", status="away")
            await nurse.expect("userOnline", userId="patient_123", status="away")
            await respond(nurse, emergency_id, "reject", rejectionReason="Busy with another")
        await crew.expect("userOffline", userId="nurse_001")
        await respond(crew, emergency_id, "accept")
        await patient.expect("emergencyResponse", responderId="paramedic_456")
        await crew.send("userOnline", status="busy")
        assert (await patient.expect("userOnline"))["userId"] == "paramedic_456"
        assert "nurse_001" not in seen(patient)
        await respond(crew, emergency_id, "reject", rejectionReason="Broken down")
        await patient.expect("emergencyStatusUpdate", status="pending", previousStatus="accepted")
        await crew.send("userOnline", status="available")
        await crew.echo()
        await patient.echo()
        assert len(patient.heard("userOnline")) == 1, "who is not the assignee any more is not seen any more"
    timeline = http_of(server, "patient_123").get(f"/api/emergencies/{emergency_id}/timeline/")
    assert timeline.status_code == 200
    assert "nurse_001" not in timeline.text
    assert "doctor_123" not in timeline.text
    assert "paramedic_456" in timeline.text
    assert "nurse_001" in http_of(server, "doctor_123").get(f"/api/emergencies/{emergency_id}/timeline/").text


async def test_patient_hears_that_nobody_can_come_but_not_who_was_asked(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as patient:
        async with server.phone("nurse_001", "nurse", "hospital_001") as nurse:
            emergency_id = await call(patient)
            await respond(nurse, emergency_id, "reject", rejectionReason="Busy with another")
        declined = (await patient.expect("emergencyResponse", action="reject"))["data"]
        assert (declined["responderId"], declined["responderName"], declined["responderRole"]) == ("", "", "")
        assert declined["rejectionReason"] is None
        epoch = patient.established["epoch"]
    async with server.phone("patient_123", "patient", since=0, epoch=epoch) as patient:
        await patient.expect("emergencyResponse", action="reject")
        assert "nurse_001" not in seen(patient), "a replay tells no more"


async def test_other_emergencies_are_named_to_staff_only(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        first = await call(patient)
        second = await call(patient)
        alert = await nurse.expect("emergencyAlert", emergencyId=second)
        assert alert["data"]["possibleDuplicateOf"] == first
        created = await patient.expect("emergencyCreated", emergencyId=second)
        assert created["data"]["possibleDuplicateOf"] is None
        update = await patient.expect("emergencyStatusUpdate", emergencyId=second)
        assert update["data"]["emergency"]["possibleDuplicateOf"] is None
    path = f"/api/emergencies/{second}/"
    assert http_of(server, "patient_123").get(path).json()["possibleDuplicateOf"] is None
    assert http_of(server, "nurse_001").get(path).json()["possibleDuplicateOf"] == first


async def test_entries_from_before_are_replayed_by_what_may_be_read_now(server: ThreadServer) -> None:
    async with (
        server.phone("test_user", "patient") as caller,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        emergency_id = await call(caller, patientId="patient_123", condition="Somebody has collapsed")
        await respond(doctor, emergency_id, "accept", responseNotes=SECRET)
        await caller.expect("emergencyResponse")
        epoch = caller.established["epoch"]
    async for entry in MailboxEntry.objects.filter(user="test_user", subject__endswith="~c"):
        plain = MailboxEntry.objects.filter(user="test_user", seq=entry.seq)
        await plain.aupdate(subject=entry.subject.removesuffix("~c"))
    async with server.phone("test_user", "patient", since=0, epoch=epoch) as caller:
        replayed = await caller.expect("emergencyResponse", emergencyId=emergency_id)
        assert replayed["data"]["responseNotes"] is None
        assert SECRET not in seen(caller), "an entry that was written with the chart"
    async with server.phone("doctor_123", "doctor", "hospital_001", since=0, epoch=epoch) as doctor:
        await doctor.expect("emergencyResponse", emergencyId=emergency_id)
        assert SECRET in seen(doctor)


async def test_who_has_changed_hospital_is_replayed_nothing_of_the_former_one(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        emergency_id = await call(patient)
        await doctor.expect("emergencyAlert", emergencyId=emergency_id)
        await nurse.expect("emergencyAlert", emergencyId=emergency_id)
        epoch = doctor.established["epoch"]
    await User.objects.filter(pk="doctor_123").aupdate(hospital="hospital_002")
    async with server.phone("doctor_123", "doctor", "hospital_002", since=0, epoch=epoch) as doctor:
        await doctor.echo()
        assert SECRET not in seen(doctor)
        assert emergency_id not in seen(doctor)
    async with server.phone("nurse_001", "nurse", "hospital_001", since=0, epoch=epoch) as nurse:
        await nurse.expect("emergencyAlert", emergencyId=emergency_id)
