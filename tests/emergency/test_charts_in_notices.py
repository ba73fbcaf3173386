"""A notice has condition and score for those alone who read the chart."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from emergency.models import Emergency, HospitalPolicy
from hplus.protocol.wire import encode
from tests.emergency.test_mutual_aid import respond
from tests.servers import ThreadServer
from tests.stories.test_charts import SECRET, call

ONLY_CREWS: dict[str, Any] = {"alert_roles": ["paramedic"], "chart_roles": ["paramedic"]}


async def test_score_is_for_who_reads_the_chart(server: ThreadServer) -> None:
    await HospitalPolicy.objects.acreate(hospital_id="hospital_001", **ONLY_CREWS)
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        emergency_id = await call(patient)
        await respond(crew, emergency_id)
        worse = {"phase": "atPatient", "vitals": {"spo2": 80, "pulse": 140}}
        await crew.ask("emergencyStatusUpdate", emergencyId=emergency_id, **worse)
        full = await crew.expect("notification", category="deteriorating")
        assert SECRET in full["body"]
        assert full["data"]["news2"]["score"] > 0
        plain = await doctor.expect("notification", category="deteriorating")
        assert plain["data"] == {"emergencyId": emergency_id}
        assert "NEWS2" not in plain["body"]
        assert SECRET not in encode({"frames": doctor.history}).decode()


async def test_condition_of_what_has_stalled_is_for_who_reads_the_chart(server: ThreadServer) -> None:
    roles = {**ONLY_CREWS, "limit_seconds": {"turnout": 0}}
    await HospitalPolicy.objects.acreate(hospital_id="hospital_001", **roles)
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        emergency_id = await call(patient)
        await respond(crew, emergency_id)
        assert SECRET in (await crew.expect("notification", category="emergencyStalled"))["body"]
        plain = await admin.expect("notification", category="emergencyStalled", cause="turnout")
        assert plain["body"].startswith("high (Kit Harbor ")
        assert SECRET not in encode({"frames": admin.history}).decode()


async def test_condition_of_what_nobody_accepts_is_for_who_reads_the_chart(server: ThreadServer) -> None:
    """A dispatcher who called is not alerted, and reads no more than the own words."""
    await HospitalPolicy.objects.acreate(hospital_id="hospital_001", **ONLY_CREWS)
    async with server.phone("admin_001", "admin", "hospital_001") as admin:
        emergency_id = await call(admin, patientId="walk_in_1", condition="collapsed")
        escalates = {"condition": SECRET, "escalation_level": 1, "escalate_at": timezone.now()}
        await Emergency.objects.filter(pk=emergency_id).aupdate(**escalates)
        plain = await admin.expect("notification", category="emergencyEscalated")
        assert plain["data"] == {"emergencyId": emergency_id, "escalationLevel": 2}
        assert plain["body"].startswith("high (waiting for ")
        await HospitalPolicy.objects.filter(pk="hospital_001").aupdate(chart_roles=["admin"])
        again = {"escalation_level": 1, "escalate_at": timezone.now()}
        await Emergency.objects.filter(pk=emergency_id).aupdate(**again)
        full = await admin.expect("notification", category="emergencyEscalated")
        assert SECRET in full["body"]
