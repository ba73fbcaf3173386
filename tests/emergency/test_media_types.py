"""What has a media type of its own is asked for and sent by it."""

from __future__ import annotations

import pytest

from tests.api import Api
from tests.security.test_numbers import CALL
from tests.servers import ThreadServer


@pytest.mark.parametrize(
    ("part", "asked", "sent"),
    [
        ("fhir/", "application/fhir+json", "application/fhir+json"),
        ("fhir/", "application/fhir+json; fhirVersion=4.0", "application/fhir+json"),
        ("fhir/", "*/*", "application/fhir+json"),
        ("fhir/", "application/json", "application/json"),
        ("track.geojson", "application/geo+json", "application/geo+json"),
        ("track.geojson", "application/json", "application/json"),
    ],
)
async def test_standard_media_type_is_accepted_and_named(
    server: ThreadServer, part: str, asked: str, sent: str
) -> None:
    async with (
        server.phone("patient_123", "patient") as patient,
        Api(server, "doctor_123") as doctor,
    ):
        emergency_id = (await patient.ask("emergencyRequest", **CALL))["data"]["emergencyId"]
        answer = await doctor.get(f"emergencies/{emergency_id}/{part}", headers={"Accept": asked})
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].partition(";")[0] == sent
        assert answer.json()
        missing = await doctor.get(f"emergencies/none/{part}", headers={"Accept": asked})
        assert (missing.status_code, missing.json()["code"]) == (404, "EMERGENCY_NOT_FOUND")
