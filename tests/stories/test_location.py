"""Crews on a map, a patient who watches the ambulance come, and a timer that nobody stops."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async

from hplus.accounts.models import Hospital, User
from location.models import Fix, Latest, PositionAccess
from tests.location.positions import (
    MATTER,
    OTHER_MATTER,
    RIVERSIDE,
    close_grants,
    open_grant,
    send_position,
    told,
    watch,
)
from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS

CREW = ("paramedic_456", "paramedic", "hospital_001")
DOCTOR = ("doctor_123", "doctor", "hospital_001")
PATIENT = ("patient_123", "patient")
COLLEAGUE = ("doctor_002", "doctor", "hospital_002")

count_fixes = sync_to_async(Fix.objects.count)


async def test_watching_staff_see_paramedics_of_their_hospital_only(server: ThreadServer) -> None:
    async with (
        server.phone(*CREW) as crew,
        server.phone(*DOCTOR) as doctor,
        server.phone(*COLLEAGUE) as elsewhere,
        server.phone(*PATIENT) as patient,
    ):
        await watch(doctor)
        await watch(elsewhere)
        await send_position(crew, 37, -122.5, speed=12.5, heading=90)
        seen = await doctor.expect("locationUpdate")
        received_at = seen["data"]["location"].pop("receivedAt")
        assert seen == {
            "type": "locationUpdate",
            "userId": "paramedic_456",
            "role": "paramedic",
            "hospitalId": "hospital_001",
            "data": {
                "location": {
                    "lat": 37.0,
                    "lng": -122.5,
                    "accuracy": 5.0,
                    "speed": 12.5,
                    "heading": 90.0,
                    "timestamp": received_at,
                    "stale": False,
                    "inaccurate": False,
                    "implausible": False,
                },
                "isEmergency": False,
                "emergencyId": None,
                "status": "active",
                "etaSeconds": None,
                "distanceMeters": None,
            },
        }
        for other in (crew, elsewhere, patient):
            await other.echo()
            assert not other.heard("locationUpdate")


async def test_positions_outside_an_emergency_go_to_watchers_only(server: ThreadServer) -> None:
    """Neither colleagues on duty, nor the other screens of one who watches, nor who watches no longer."""
    async with (
        server.phone(*CREW) as crew,
        server.phone("paramedic_789", "paramedic", "hospital_001") as other_crew,
        server.phone(*DOCTOR) as doctor,
        server.phone("admin_001", "admin", "hospital_001") as admin,
        server.phone("admin_001", "admin", "hospital_001") as board,
        server.phone("nurse_001", "nurse", "hospital_001") as former,
    ):
        await watch(board)
        await watch(former)
        await told(crew, 1)
        await former.expect("locationUpdate", userId="paramedic_456")
        assert (await former.ask("watchLocations", on=False))["type"] == "ack"
        await told(crew, 2)
        await board.expect_that(lambda frame: _lat(frame) == 2, "the second position")
        for other in (crew, other_crew, doctor, admin, former):
            await other.echo()
            assert [_lat(frame) for frame in other.heard("locationUpdate")] == (
                [1] if other is former else []
            )
        await doctor.ask("locationRequest", targetUserId="paramedic_456")
        assert _lat(await doctor.expect("locationUpdate")) == 2


async def test_watchLocations_permission_by_role_and_hospital(server: ThreadServer) -> None:
    async with (
        server.phone(*PATIENT) as patient,
        server.phone(*DOCTOR) as doctor,
    ):
        for phone, request, code in (
            (patient, {"on": True}, "FORBIDDEN"),
            (patient, {"on": True, "hospitalId": "hospital_001"}, "FORBIDDEN"),
            (doctor, {"on": True, "hospitalId": "hospital_002"}, "HOSPITAL_MISMATCH"),
            (doctor, {"on": True, "hospitalId": "nowhere"}, "HOSPITAL_MISMATCH"),  # nor which there are
            (doctor, {"on": True, "emergencyId": MATTER}, "FORBIDDEN"),
            (doctor, {}, "VALIDATION_ERROR"),
            (doctor, {"on": "perhaps"}, "VALIDATION_ERROR"),
        ):
            answer = await phone.ask("watchLocations", **request)
            assert answer.get("code") == code, (phone.user_id, request)
        for request in (
            {"on": False},  # what never began
            {"on": True, "hospitalId": "hospital_001", "surprise": 1},
            {"on": True},  # twice
        ):
            assert (await doctor.ask("watchLocations", **request))["type"] == "ack", request


async def test_watching_one_emergency_shows_its_subjects_only(server: ThreadServer) -> None:
    async with (
        server.phone(*CREW) as crew,
        server.phone("paramedic_789", "paramedic", "hospital_001") as other_crew,
        server.phone(*PATIENT) as patient,
        server.phone(*DOCTOR) as doctor,
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone(*COLLEAGUE) as elsewhere,
    ):
        await open_grant(MATTER, "patient_123", to_hospital="hospital_001", why="emergency")
        await open_grant(MATTER, "paramedic_456", to_hospital="hospital_001", why="emergency")
        await open_grant(OTHER_MATTER, "paramedic_789", to_hospital="hospital_001", why="emergency")
        refused = await elsewhere.ask("watchLocations", on=True, emergencyId=MATTER)
        assert refused["code"] == "FORBIDDEN"
        await watch(doctor, emergencyId=MATTER)
        await watch(nurse)
        for phone, lat in ((other_crew, 1), (patient, 2), (crew, 3)):
            await told(phone, lat)
        for watcher, lats in ((nurse, [1, 2, 3]), (doctor, [2, 3])):
            for lat in lats:
                await watcher.expect_that(lambda frame, lat=lat: _lat(frame) == lat, f"position {lat}")
        await doctor.echo()
        assert len(doctor.heard("locationUpdate")) == 2
        await close_grants(MATTER, "completed")
        await told(crew, 4)
        await nurse.expect_that(lambda frame: _lat(frame) == 4, "who is on duty again")
        for phone in (doctor, elsewhere, crew):
            await phone.echo()
            assert not [frame for frame in phone.frames if _lat(frame) == 4]


async def test_position_of_off_duty_paramedic_is_neither_shown_nor_stored(server: ThreadServer) -> None:
    async with server.phone(*CREW) as crew, server.phone(*DOCTOR) as doctor:
        await watch(doctor)
        await told(crew)
        await doctor.expect("locationUpdate")
        await crew.ask("userOffline")
        await told(crew, 37.8)
        await doctor.send("locationRequest", targetUserId="paramedic_456")
        await doctor.expect_error("FORBIDDEN")
        assert not [frame for frame in doctor.frames if frame["type"] == "locationUpdate"]
        assert await count_fixes() == 1


async def test_patient_sees_assigned_crew_with_distance_and_eta(server: ThreadServer) -> None:
    async with (
        server.phone(*CREW) as crew,
        server.phone(*PATIENT) as patient,
        server.phone("test_user", "patient") as stranger,
        server.phone(*DOCTOR) as doctor,
    ):
        await open_grant(MATTER, "paramedic_456", to_user="patient_123", why="crew", destination=RIVERSIDE)
        await open_grant(MATTER, "patient_123", to_hospital="hospital_001", why="needs help")
        await watch(doctor)
        await send_position(crew, RIVERSIDE[0] + 0.01, RIVERSIDE[1], MATTER, is_emergency=True)
        seen = (await patient.expect("locationUpdate"))["data"]
        assert (seen["isEmergency"], seen["emergencyId"]) == (True, MATTER)
        assert seen["distanceMeters"] == pytest.approx(1111.95, abs=0.1)
        assert seen["etaSeconds"] == 173  # 1,112 m · 1.4 / 9 m/s
        await doctor.expect("locationUpdate", userId="paramedic_456")

        await send_position(patient, is_emergency=True)  # no id: the one open emergency
        assert (await doctor.expect("locationUpdate", userId="patient_123"))["data"]["emergencyId"] == MATTER
        await patient.echo()
        assert len(patient.heard("locationUpdate")) == 1
        await stranger.echo()
        assert not stranger.heard("locationUpdate")


async def test_updates_after_the_end_are_dropped_and_answered_once_with_stopped(server: ThreadServer) -> None:
    async with (
        server.phone(*CREW) as crew,
        server.phone(*PATIENT) as patient,
        server.phone(*DOCTOR) as doctor,
    ):
        await open_grant(MATTER, "patient_123", to_hospital="hospital_001", why="needs help")
        await open_grant(MATTER, "paramedic_456", to_user="patient_123", why="crew")
        await watch(doctor)
        await told(patient, emergency_id=MATTER, is_emergency=True)
        await doctor.expect("locationUpdate", userId="patient_123")
        await told(crew, emergency_id=MATTER)
        await patient.expect("locationUpdate", userId="paramedic_456")
        await doctor.expect("locationUpdate", userId="paramedic_456")
        before = await count_fixes(), (await Latest.objects.aget(pk="patient_123")).at

        await close_grants(MATTER, "completed")
        for phone, user_id in ((patient, "patient_123"), (crew, "paramedic_456")):
            for emergency_id in (MATTER, None, MATTER):
                await told(phone, 10.0, 10.0, emergency_id=emergency_id, is_emergency=True)
            assert phone.heard("locationSharingStopped") == [
                {
                    "type": "locationSharingStopped",
                    "userId": user_id,
                    "emergencyId": MATTER,
                    "reason": "completed",
                }
            ]
            assert not phone.heard("error")
        assert (await count_fixes(), (await Latest.objects.aget(pk="patient_123")).at) == before
        for phone in (doctor, patient):
            await phone.echo()
            assert not [frame for frame in phone.frames if frame["type"] == "locationUpdate"]

        await told(crew)  # on duty again, as far as the phone says
        await doctor.expect("locationUpdate", userId="paramedic_456", emergencyId=None)


async def test_location_request_returns_last_position_and_asks_for_one_fresh(server: ThreadServer) -> None:
    async with server.phone(*CREW) as crew, server.phone(*DOCTOR) as doctor:
        await told(crew, 37, -122.5)
        await doctor.send("locationRequest", targetUserId="paramedic_456", requestId="where-1")
        last = await doctor.expect("locationUpdate")
        assert last["data"]["location"]["lat"] == 37.0
        asked = await crew.expect("locationRequest")
        assert asked.pop("expiresAt")
        assert asked == {
            "type": "locationRequest",
            "requestId": "where-1",
            "userId": "doctor_123",
            "requesterRole": "doctor",
            "targetUserId": "paramedic_456",
            "emergencyId": None,
        }
        await send_position(crew, 38, -122.5)
        assert (await doctor.expect("locationUpdate"))["data"]["location"]["lat"] == 38.0
        await told(crew, 39, -122.5)  # asked once, answered once
        await doctor.echo()
        assert [_lat(frame) for frame in doctor.heard("locationUpdate")] == [37, 38]
        reading = await PositionAccess.objects.aget()
        assert (reading.reader_id, reading.subject_id, reading.why) == (
            "doctor_123",
            "paramedic_456",
            "on duty",
        )


async def test_location_request_without_access_is_forbidden(server: ThreadServer) -> None:
    async with (
        server.phone(*CREW) as crew,
        server.phone(*PATIENT) as patient,
        server.phone(*COLLEAGUE) as elsewhere,
        server.phone(*DOCTOR) as doctor,
    ):
        await open_grant(MATTER, "patient_123", to_hospital="hospital_001", why="needs help")
        await told(patient)
        await told(crew)
        await doctor.send("locationRequest", targetUserId="patient_123")
        await doctor.expect("locationUpdate", userId="patient_123")
        await patient.expect("locationRequest", userId="doctor_123", emergencyId=MATTER)
        await close_grants(MATTER, "completed")

        await doctor.send("locationRequest", targetUserId="patient_123")  # a former patient's doctor
        await doctor.expect_error("FORBIDDEN")
        for asker, target in ((elsewhere, "paramedic_456"), (patient, "paramedic_456"), (crew, "doctor_123")):
            await asker.send("locationRequest", targetUserId=target)
            await asker.expect_error("FORBIDDEN", requestType="locationRequest")
        await doctor.send("locationRequest", targetUserId="nobody")
        await doctor.expect_error("FORBIDDEN")  # nor who exists
        assert len(patient.heard("locationRequest")) == 1
        assert not crew.heard("locationRequest")
        assert await PositionAccess.objects.acount() == 1


async def test_location_request_waits_for_the_first_position(server: ThreadServer) -> None:
    async with server.phone(*DOCTOR) as doctor, server.phone(*CREW) as crew:
        await doctor.send("locationRequest", targetUserId="paramedic_456")
        await doctor.expect_error("LOCATION_UNAVAILABLE")
        await crew.expect("locationRequest", userId="doctor_123")
        async with server.phone(*CREW) as second_screen:
            await second_screen.expect("locationRequest", userId="doctor_123")
        await send_position(crew)
        await doctor.expect("locationUpdate", userId="paramedic_456")
    async with server.phone(*CREW) as crew:
        await crew.echo()
        assert not crew.heard("locationRequest")


async def test_positions_of_two_concurrent_grants_stay_separate(server: ThreadServer) -> None:
    async with (
        server.phone(*CREW) as crew,
        server.phone(*PATIENT) as first,
        server.phone("test_user", "patient") as second,
    ):
        await open_grant(MATTER, "paramedic_456", to_user="patient_123", why="crew")
        await open_grant(OTHER_MATTER, "paramedic_456", to_user="test_user", why="crew")
        await told(crew, emergency_id=MATTER)
        assert (await first.expect("locationUpdate"))["data"]["emergencyId"] == MATTER
        assert (await second.expect("locationUpdate"))["data"]["emergencyId"] == OTHER_MATTER
        await close_grants(MATTER, "completed")
        await told(crew, emergency_id=MATTER)
        await crew.expect("locationSharingStopped", emergencyId=MATTER)
        await told(crew)
        await second.expect("locationUpdate", emergencyId=OTHER_MATTER)
        await first.echo()
        assert len(first.heard("locationUpdate")) == 1


async def test_position_and_track_over_http_for_authorised_staff_only(
    server: ThreadServer, users: dict[str, Any]
) -> None:
    odd = "crew/7 %2F é"
    hospital = await Hospital.objects.aget(pk="hospital_001")
    await User.objects.acreate(user_id=odd, role="paramedic", hospital=hospital, password="")
    address = "/api/location/crew%2F7%20%252F%20%C3%A9/"
    async with (
        server.phone(odd, "paramedic", "hospital_001") as crew,
        httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_SECONDS) as http,
    ):
        doctor = await _bearer(http, "doctor_123")
        unknown = await http.get(address, headers=doctor)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "LOCATION_UNAVAILABLE")
        for lat in (37.0, 37.001):
            await told(crew, lat, -122.5)
        answer = await http.get(address, headers=doctor)
        assert answer.status_code == 200
        body = answer.json()
        assert (body["userId"], body["data"]["location"]["lat"]) == (odd, 37.001)
        [feature] = body["track"]["features"]
        assert feature["geometry"] == {
            "type": "LineString",
            "coordinates": [[-122.5, 37.0], [-122.5, 37.001]],
        }
        assert feature["properties"]["userId"] == odd
        refused = await http.get(address, headers=await _bearer(http, "doctor_002"))
        assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
        missing = await http.get("/api/location/nobody/", headers=doctor)
        assert (missing.status_code, missing.json()["code"]) == (403, "FORBIDDEN")
        assert (await http.get(address)).status_code == 401
        assert await PositionAccess.objects.filter(reader="doctor_123", subject=odd).acount() == 1


async def _bearer(http: httpx.AsyncClient, user_id: str) -> dict[str, str]:
    answer = await http.post("/api/auth/token/", json={"userId": user_id, "password": "hplus-demo"})
    return {"Authorization": f"Bearer {answer.json()['access']}"}


def _lat(frame: dict[str, Any]) -> float | None:
    """The latitude in a `locationUpdate`; None in any other frame."""
    return frame["data"]["location"]["lat"] if frame["type"] == "locationUpdate" else None
