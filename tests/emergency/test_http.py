"""The same emergencies over HTTP, for a hospital's own systems, and in the admin site."""

from __future__ import annotations

import json
from typing import Any

import httpx
from fhir.resources.R4B.bundle import Bundle

from emergency.models import Emergency, HospitalPolicy
from hplus.accounts.models import User
from hplus.management.commands.seed_demo import PASSWORD
from location.models import PositionAccess
from tests.api import Api, refused
from tests.emergency import guide_frames
from tests.location.positions import watch
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS

VITALS = {
    "respirationRate": 22, "spo2": 93, "onOxygen": True, "bp": "104/66", "pulse": 112,
    "avpu": "A", "temp": 38.2,
}  # fmt: skip
NONE_LISTED = {"emergencies": [], "nextCursor": None, "hasMore": False}


class HttpClient:
    """Somebody who works over HTTP."""

    def __init__(self, server: ThreadServer, user_id: str) -> None:
        self.http = httpx.Client(base_url=server.url, timeout=PATIENCE_SECONDS)
        signed_in = self.http.post("/api/auth/token/", json={"userId": user_id, "password": PASSWORD})
        self.http.headers["Authorization"] = f"Bearer {signed_in.json()['access']}"

    def get(self, path: str, **query: Any) -> Any:
        answer = self.http.get(f"/api/emergencies/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **body: Any) -> Any:
        return self.http.post(f"/api/emergencies/{path}", json=body).json()


def test_emergency_from_request_to_report_over_http(server: ThreadServer) -> None:
    patient, medic, admin = (HttpClient(server, who) for who in ("patient_123", "paramedic_456", "admin_001"))
    request = guide_frames.create_emergency_request(vitals=VITALS, patientPhone=5550100, clientMessageId="h1")
    made = patient.http.post("/api/emergencies/", json=request)
    assert made.status_code == 201
    emergency_id = made.json()["data"]["emergencyId"]
    again = patient.http.post("/api/emergencies/", json=request)
    assert (again.status_code, again.json()) == (200, {**made.json(), "status": "duplicate"})

    listed = medic.get("", status="pending,accepted")["emergencies"]
    assert [guide_frames.emergency_request(each)["emergencyId"] for each in listed] == [emergency_id]
    assert medic.get("", status="completed") == NONE_LISTED
    news2 = medic.get(f"{emergency_id}/")["news2"]
    assert (news2["score"], news2["band"], news2["complete"]) == (2 + 2 + 2 + 1 + 2 + 0 + 1, "high", True)

    done = {"status": "ok", "data": {"emergencyId": emergency_id}}
    assert medic.post(f"{emergency_id}/response/", action="accept", estimatedArrival="5 min") == done
    late = admin.http.post(f"/api/emergencies/{emergency_id}/response/", json={"action": "accept"})
    assert (late.status_code, late.json()["code"]) == (409, "EMERGENCY_ALREADY_ASSIGNED")
    assert medic.post(f"{emergency_id}/status/", status="in_progress", phase="onScene") == done
    measured = medic.post(f"{emergency_id}/status/", status="in_progress", vitals={"pulse": 88, "spo2": 97})
    assert measured == done
    assert medic.post(f"{emergency_id}/status/", status="completed", notes="handed over") == done
    early = medic.http.post(f"/api/emergencies/{emergency_id}/status/", json={"status": "pending"})
    assert (early.status_code, early.json()["code"]) == (409, "INVALID_TRANSITION")
    bad = medic.http.get("/api/emergencies/", params={"status": "lost"})
    assert (bad.status_code, bad.json()["details"]["field"]) == (400, "status")

    entries = medic.get(f"{emergency_id}/timeline/")["entries"]
    assert [entry["kind"] for entry in entries] == [
        "requested", "vitals", "alerted", "responded", "status", "vitals", "status", "status",
    ]  # fmt: skip
    assert [entry["by"] for entry in entries][:4] == ["patient_123", "patient_123", None, "paramedic_456"]
    assert entries[5]["data"]["readings"] == {"pulse": 88, "spo2": 97}
    assert {"nurse_001", "admin_001"} <= set(entries[2]["data"]["userIds"])
    assert medic.get(f"{emergency_id}/track.geojson") == {"type": "FeatureCollection", "features": []}
    assert guide_frames.emergency_request(patient.get(f"{emergency_id}/"))["status"] == "completed"
    assert medic.get(f"{emergency_id}/nearest/")["data"] == []

    times = medic.get("response-times/")
    assert (times["hospitalId"], times["emergencies"]) == ("hospital_001", 1)
    assert {step: found["count"] for step, found in times["steps"].items()} == {
        "alert": 1, "accept": 1, "scene": 1,
    }  # fmt: skip
    assert times["steps"]["accept"]["targetSeconds"] == 60
    assert times["steps"]["accept"]["withinTarget"] == 1
    HospitalPolicy.objects.create(hospital_id="hospital_001", targets={"accept": 0})
    assert medic.get("response-times/")["steps"]["accept"]["withinTarget"] == 0
    assert patient.http.get("/api/emergencies/response-times/").status_code == 403


def test_http_body_is_read_flat_or_under_data(server: ThreadServer) -> None:
    patient, medic = (HttpClient(server, who) for who in ("patient_123", "paramedic_456"))
    frame = {"type": "emergencyRequest", "data": guide_frames.create_emergency_request()}
    made = patient.http.post("/api/emergencies/", json=frame)
    assert made.status_code == 201, made.text
    emergency_id = made.json()["data"]["emergencyId"]
    elsewhere = guide_frames.respond("another one", "accept")
    done = {"status": "ok", "data": {"emergencyId": emergency_id}}
    assert medic.post(f"{emergency_id}/response/", data=elsewhere) == done
    assert patient.get(f"{emergency_id}/")["assignedTo"] == "paramedic_456"
    assert Emergency.objects.get().original == patient_sent(frame["data"])
    late = medic.http.post(f"/api/emergencies/{emergency_id}/status/", json={"data": {"status": "asleep"}})
    assert (late.status_code, late.json()["details"]["field"]) == (400, "status")


def patient_sent(fields: dict[str, Any]) -> dict[str, Any]:
    """What of it said something."""
    return {name: value for name, value in fields.items() if value is not None}


def test_fhir_bundle_is_valid(server: ThreadServer) -> None:
    patient, medic = HttpClient(server, "patient_123"), HttpClient(server, "paramedic_456")
    request = guide_frames.create_emergency_request(vitals=VITALS, priority="critical")
    emergency_id = patient.post("", **request)["data"]["emergencyId"]
    medic.post(f"{emergency_id}/response/", action="accept")
    told = medic.get(f"{emergency_id}/fhir/")
    bundle = Bundle.model_validate(told)
    assert json.loads(bundle.model_dump_json())["resourceType"] == "Bundle"
    kinds = [entry["resource"]["resourceType"] for entry in told["entry"]]
    assert kinds == ["Patient", "Location", "Encounter", *["Observation"] * 5]
    resources = [entry["resource"] for entry in told["entry"]]
    assert resources[2]["priority"]["coding"][0]["code"] == "EM"
    by_code = {each["code"]["coding"][0]["code"]: each for each in resources[3:]}
    assert by_code["8867-4"]["valueQuantity"]["value"] == 112
    assert [part["valueQuantity"]["value"] for part in by_code["85354-9"]["component"]] == [104, 66]
    urls = {entry["fullUrl"] for entry in told["entry"]}
    assert {each["subject"]["reference"] for each in resources[2:]} <= urls
    assert len(urls) == len(kinds)
    bare = patient.post(
        "", **guide_frames.create_emergency_request(patientName=None, patientPhone="", vitals=[])
    )
    Bundle.model_validate(medic.get(f"{bare['data']['emergencyId']}/fhir/"))


def test_other_hospital_gets_not_found_at_every_url(server: ThreadServer) -> None:
    emergency_id = HttpClient(server, "patient_123").post("", **guide_frames.create_emergency_request())[
        "data"
    ]["emergencyId"]
    commands: dict[str, dict[str, Any]] = {
        "response/": {"action": "accept"},
        "status/": {"status": "cancelled"},
        "reassign/": {"assigneeId": "doctor_002", "reason": "x"},
        "transfer/": {"toHospitalId": "hospital_002", "reason": "x"},
    }
    for who in ("admin_002", "doctor_002", "test_user"):
        client = HttpClient(server, who)
        assert client.get("") == NONE_LISTED
        for path in ("", "timeline/", "track.geojson", "fhir/", "nearest/"):
            foreign = client.http.get(f"/api/emergencies/{emergency_id}/{path}")
            missing = client.http.get(f"/api/emergencies/no-such/{path}")
            assert (foreign.status_code, foreign.json()) == (404, missing.json())
        for path, body in commands.items():
            foreign = client.http.post(f"/api/emergencies/{emergency_id}/{path}", json=body)
            missing = client.http.post(f"/api/emergencies/no-such/{path}", json=body)
            assert foreign.status_code in (403, 404), path
            assert foreign.json() == missing.json()
    assert httpx.get(f"{server.url}/api/emergencies/", timeout=PATIENCE_SECONDS).status_code == 401
    nul = HttpClient(server, "doctor_123").http.get("/api/emergencies/%00/")
    assert nul.json()["code"] == "EMERGENCY_NOT_FOUND"


async def test_other_hospital_is_refused_for_every_message_type(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("admin_002", "admin", "hospital_002") as admin,
    ):
        made = await patient.ask("emergencyRequest", data=guide_frames.create_emergency_request())
        emergency_id = made["data"]["emergencyId"]
        commands: dict[str, dict[str, Any]] = {
            "emergencyResponse": {"action": "accept"},
            "emergencyStatusUpdate": {"status": "cancelled"},
            "emergencyReassign": {"assigneeId": "doctor_002", "reason": "x"},
            "emergencyTransfer": {"toHospitalId": "hospital_002", "reason": "x"},
            "nearestResponders": {},
        }
        for type_, request in commands.items():
            foreign = await admin.ask(type_, emergencyId=emergency_id, **request)
            missing = await admin.ask(type_, emergencyId="no-such", **request)
            for answer in (foreign, missing):
                assert answer["code"] == "EMERGENCY_NOT_FOUND"
                del answer["requestId"], answer["timestamp"]
            assert foreign == missing
        assert (await admin.ask("locationRequest", targetUserId="patient_123"))["code"] == "FORBIDDEN"
        heard = {frame["type"] for frame in admin.history} - {"error", "connection_established"}
        assert not heard
    async with server.phone("admin_002", "admin", "hospital_002") as admin:
        assert admin.established["data"]["activeEmergencies"] == []
    assert (await Emergency.objects.aget()).version == 1


async def test_responders_are_visible_until_the_emergency_ends(server: ThreadServer) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("paramedic_456", "paramedic", "hospital_001") as crew,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        made = await patient.ask("emergencyRequest", data=guide_frames.create_emergency_request())
        emergency_id = made["data"]["emergencyId"]
        await crew.ask("emergencyResponse", data=guide_frames.respond(emergency_id, "accept"))
        await watch(nurse, emergencyId=emergency_id)
        here = {"lat": 37.7849, "lng": -122.4194, "accuracy": 5.0, "speed": -1, "heading": -1}
        await crew.send(
            "locationUpdate", data={"location": here, "isEmergency": True, "emergencyId": emergency_id}
        )
        for phone in (patient, nurse):
            seen = await phone.expect("locationUpdate", userId="paramedic_456")
            assert seen["data"]["emergencyId"] == emergency_id
            assert 1000 < seen["data"]["distanceMeters"] < 1300
        near = await nurse.ask("nearestResponders", emergencyId=emergency_id)
        assert near["type"] == "ack"
        [responder] = (await nurse.expect("nearestResponders"))["data"]
        assert (responder["userId"], responder["name"]) == ("paramedic_456", "Kit Harbor")
        assert type(responder["etaSeconds"]) is int, "Dart tells 173 and 173.0 apart"
        assert (await patient.ask("nearestResponders", emergencyId=emergency_id))["code"] == "FORBIDDEN"
        await crew.ask("emergencyStatusUpdate", data=guide_frames.update_status(emergency_id, "in_progress"))
        update = await patient.expect("emergencyStatusUpdate", status="in_progress")
        assert update["data"]["emergency"]["etaSeconds"] > 60
        assert type(update["data"]["emergency"]["etaSeconds"]) is int
        await crew.ask("emergencyStatusUpdate", data=guide_frames.update_status(emergency_id, "completed"))
        await crew.send(
            "locationUpdate", data={"location": here, "isEmergency": True, "emergencyId": emergency_id}
        )
        await crew.expect("locationSharingStopped", emergencyId=emergency_id)
        assert (await patient.ask("locationRequest", targetUserId="paramedic_456"))["code"] == "FORBIDDEN"


async def test_naming_a_patient_in_a_call_for_help_gives_no_access_to_position(server: ThreadServer) -> None:
    async with (
        server.phone("test_user", "patient") as bystander,
        server.phone("patient_123", "patient") as patient,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
    ):
        made = await bystander.ask("emergencyRequest", data=guide_frames.create_emergency_request())
        await watch(nurse)
        here = {"lat": 37.7849, "lng": -122.4194}
        assert (await nurse.ask("locationRequest", targetUserId="patient_123"))["code"] == "FORBIDDEN"
        confirmed = {"emergencyId": made["data"]["emergencyId"], "isMe": True}
        assert (await patient.ask("emergencyConfirmPatient", **confirmed))["type"] == "ack"
        for phone in (patient, bystander):
            await phone.ask("locationUpdate", data={"location": here, "isEmergency": True})
            await nurse.expect("locationUpdate", userId=phone.user_id)
        for phone, target in ((bystander, "patient_123"), (patient, "test_user")):
            assert (await phone.ask("locationRequest", targetUserId=target))["code"] == "FORBIDDEN"
            assert not phone.heard("locationUpdate")
        assert (await nurse.ask("locationRequest", targetUserId="patient_123"))["type"] == "ack"


async def test_reading_a_track_is_recorded(server: ThreadServer) -> None:
    async with (
        Api(server, "patient_123") as patient,
        Api(server, "nurse_001") as nurse,
        Api(server, "nurse_002") as elsewhere,
        server.phone("patient_123", "patient") as phone,
    ):
        made = (await patient.post("emergencies/", json=guide_frames.create_emergency_request())).json()
        emergency_id = made["data"]["emergencyId"]
        here = {"lat": 37.7849, "lng": -122.4194, "timestamp": "2024-11-22T09:15:00+02:00"}
        await phone.ask("locationUpdate", data={"location": here, "isEmergency": True})
        at = f"emergencies/{emergency_id}"
        [feature] = (await nurse.get(f"{at}/track.geojson")).json()["features"]
        assert feature["properties"]["userId"] == "patient_123"
        told = (await nurse.get(f"{at}/timeline/")).json()["entries"]
        [position] = [moment for moment in told if moment["kind"] == "position"]
        assert position["data"]["measuredAt"] == "2024-11-22T07:15:00Z"
        assert (await patient.get(f"{at}/track.geojson")).status_code == 200, "one's own is nobody's business"
        refused(await elsewhere.get(f"{at}/track.geojson"), 404, "EMERGENCY_NOT_FOUND")
    readings = PositionAccess.objects.values_list("reader", "subject", "why", "reason_id")
    assert [row async for row in readings] == [("nurse_001", "patient_123", "track", emergency_id)] * 2


def test_emergency_admin_shows_own_hospital_only(server: ThreadServer, client: Any) -> None:
    emergency_id = HttpClient(server, "patient_123").post("", **guide_frames.create_emergency_request())[
        "data"
    ]["emergencyId"]
    address = f"/admin/emergency/emergency/{emergency_id}/change/"
    seen = {}
    for who in ("admin_001", "admin_002", "root"):
        client.force_login(User.objects.get(pk=who))
        seen[who] = "Chest pain" in client.get("/admin/emergency/emergency/").content.decode()
        shown = client.get(address)
        assert ("Chest pain" in shown.content.decode()) == seen[who]
        assert client.post(address, {"status": "cancelled"}).status_code in (302, 403)
        hospital = client.get("/admin/accounts/hospital/hospital_001/change/")
        assert ("Who is alerted first" in hospital.content.decode()) == seen[who]
    assert seen == {"admin_001": True, "admin_002": False, "root": True}
    assert Emergency.objects.get().status == "pending"


async def test_presence_of_a_calling_patient_goes_to_staff_while_it_is_open(server: ThreadServer) -> None:
    async with (
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("nurse_002", "nurse", "hospital_002") as elsewhere,
    ):
        async with server.phone("patient_123", "patient") as patient:
            made = await patient.ask("emergencyRequest", data=guide_frames.create_emergency_request())
        await nurse.expect("userOffline", userId="patient_123")
        done = guide_frames.update_status(made["data"]["emergencyId"], "cancelled")
        await nurse.ask("emergencyStatusUpdate", data=done)
        async with server.phone("patient_123", "patient") as patient:
            await patient.echo()
        for phone, hospital_id in ((nurse, "hospital_001"), (elsewhere, "hospital_002")):
            await phone.ask("joinHospital", hospitalId=hospital_id)
        assert not nurse.heard("userOnline")
        assert not elsewhere.heard("userOffline")
