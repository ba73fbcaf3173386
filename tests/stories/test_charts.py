"""Who reads a chart: the roles of the hospital's policy and who was alerted, and the audit names each."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.urls import URLPattern, URLResolver, get_resolver

from emergency import charts
from emergency.call_for_help import request_help
from emergency.messages import RequestHelp
from emergency.models import HospitalPolicy
from hplus.accounts.models import User
from hplus.audit.actions import verify
from hplus.audit.models import Record, Verb
from hplus.management.commands.seed_demo import PASSWORD
from hplus.protocol.wire import encode
from tests.admin_site import admin_client_of
from tests.emergency import guide_frames
from tests.phone import Phone
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS

SECRET = "Anaphylaxis after penicillin"
PARTS = ("", "timeline/", "fhir/", "track.geojson")


def http_of(server: ThreadServer, user_id: str) -> httpx.Client:
    http = httpx.Client(base_url=server.url, timeout=PATIENCE_SECONDS)
    signed_in = http.post("/api/auth/token/", json={"userId": user_id, "password": PASSWORD})
    http.headers["Authorization"] = f"Bearer {signed_in.json()['access']}"
    return http


async def call(caller: Phone, **given: Any) -> str:
    request = {**guide_frames.TEST_EMERGENCY, "patientId": caller.user_id, "condition": SECRET, **given}
    return str((await caller.ask("emergencyRequest", data=request))["data"]["emergencyId"])


@sync_to_async
def readings(reader: str) -> list[tuple[str, dict[str, str]]]:
    """Surface and what was shown of whom, in order."""
    rows = Record.objects.filter(actor_id=reader, verb=Verb.READ, object_type="emergency.emergency")
    return [(row.details["surface"], row.details["whose"]) for row in rows.order_by("number")]


async def test_roles_of_the_policy_and_who_was_alerted_read_a_chart_and_nobody_else(
    server: ThreadServer,
) -> None:
    async with server.phone("patient_123", "patient") as patient:
        emergency_id = await call(patient)
    path = f"/api/emergencies/{emergency_id}/"
    statuses = {
        who: [http_of(server, who).get(path + part).status_code for part in PARTS]
        for who in (
            "patient_123", "doctor_123", "nurse_001", "paramedic_456", "admin_001",
            "receptionist_001", "technician_001", "pharmacist_001", "doctor_002", "test_user",
        )
    }  # fmt: skip
    may, may_not, nothing = [200] * 4, [403] * 4, [404] * 4
    assert statuses == {
        "patient_123": may, "doctor_123": may, "nurse_001": may, "paramedic_456": may, "admin_001": may,
        "receptionist_001": may,  # was alerted
        "technician_001": may_not, "pharmacist_001": may_not, "doctor_002": nothing, "test_user": nothing,
    }  # fmt: skip
    assert http_of(server, "technician_001").get("/api/emergencies/").json()["emergencies"] == []
    async with server.phone("technician_001", "technician", "hospital_001") as technician:
        await technician.echo()
        assert SECRET not in encode({"frames": technician.history}).decode()
    assert await readings("technician_001") == await readings("doctor_002") == []
    await HospitalPolicy.objects.acreate(hospital_id="hospital_001", chart_roles=["technician"])
    assert http_of(server, "technician_001").get(f"/api/emergencies/{emergency_id}/").status_code == 200
    assert http_of(server, "paramedic_456").get(f"/api/emergencies/{emergency_id}/").status_code == 200


async def test_each_reading_is_recorded_once_for_reader_record_and_surface(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as patient:
        emergency_id = await call(patient)
    whose = {emergency_id: "patient_123"}
    doctor = http_of(server, "doctor_123")
    for _ in range(2):
        for part in ("", *PARTS):
            assert doctor.get(f"/api/emergencies/{emergency_id}/{part}").status_code == 200
        assert doctor.get("/api/emergencies/").status_code == 200
    expected = [(surface, whose) for surface in ("detail", "timeline", "fhir", "track", "list")]
    assert await readings("doctor_123") == expected
    for _ in range(2):
        async with server.phone("nurse_001", "nurse", "hospital_001") as nurse:
            assert nurse.established["data"]["activeEmergencies"][0]["condition"] == SECRET
    assert await readings("nurse_001") == [("greeting", whose)]
    async with server.phone("patient_123", "patient") as patient:
        another = await call(patient)
    assert len(doctor.get("/api/emergencies/").json()["emergencies"]) == 2
    assert (await readings("doctor_123"))[-1] == ("list", {another: "patient_123"}), "what is new of the list"
    own = http_of(server, "patient_123")
    assert own.get(f"/api/emergencies/{emergency_id}/timeline/").status_code == 200
    assert await readings("patient_123") == []
    assert (await sync_to_async(verify)())[1] == []


def test_several_who_are_greeted_at_once_are_recorded_in_one_chain(users: dict[str, User]) -> None:
    for name in ("patient_123", "test_user"):
        request_help(users[name], RequestHelp.read({**guide_frames.TEST_EMERGENCY, "patientId": name}))
    staff = [users[name] for name in ("doctor_123", "nurse_001", "root")]
    assert [len(shown) for shown, _ in charts.greetings(staff)] == [2, 2, 2]
    charts.greetings(staff)
    rows = Record.objects.filter(verb=Verb.READ).order_by("number")
    assert list(rows.values_list("actor_id", flat=True)) == ["doctor_123", "nurse_001", "root"]
    assert all(set(row.details["whose"].values()) == {"patient_123", "test_user"} for row in rows)
    assert verify()[1] == []


# A new surface


def patterns(resolver: URLResolver, prefix: str = "") -> list[str]:
    """Every address below the resolver, with its parameters in angle brackets."""
    found: list[str] = []
    for each in resolver.url_patterns:
        route = prefix + str(each.pattern)
        found += patterns(each, route) if isinstance(each, URLResolver) else [route]
        assert isinstance(each, URLPattern | URLResolver)
    return found


def addresses(emergency_id: str) -> list[str]:
    """Every address of HPlus with a value for each parameter that could name an emergency."""
    values = {"name": "cancel", "kind": "json", "path": "x", "app_label": "emergency"}

    def value(parameter: re.Match[str]) -> str:
        return values.get(parameter["name"], emergency_id)

    found = [re.sub(r"<(?:\w+:)?(?P<name>\w+)>", value, route) for route in patterns(get_resolver())]
    simple = [route for route in found if not re.search(r"[\\^$(?]", route)]
    return [f"/{route}" for route in simple if "logout" not in route]


async def test_every_address_that_shows_a_chart_has_recorded_it(
    server: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts, "READ_ONCE_IN", timedelta(0))
    async with server.phone("patient_123", "patient") as patient:
        emergency_id = await call(patient)
    http = http_of(server, "admin_001")
    admin_client = await sync_to_async(admin_client_of)("admin_001")

    @sync_to_async
    def show(address: str) -> tuple[bool, list[tuple[str, Any]]]:
        """Whether the chart is shown there, and the readings recorded for it from an empty audit."""
        since = Record.objects.count()
        pages = [http.get(address).content, admin_client.get(address).content]
        rows = Record.objects.filter(actor_id="admin_001", number__gt=since)
        return any(SECRET.encode() in page for page in pages), list(rows.values_list("object_id", "details"))

    showing: dict[str, list[tuple[str, Any]]] = {}
    for address in addresses(emergency_id):
        shown, recorded = await show(address)
        if shown:
            showing[address] = recorded
    assert len(showing) >= 8, showing
    silent = [
        address
        for address, recorded in showing.items()
        if not any(emergency_id in (row_id, *details.get("whose", {})) for row_id, details in recorded)
    ]
    assert silent == []
