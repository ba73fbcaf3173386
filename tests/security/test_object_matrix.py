"""Every address with an id, for every role: own, of the same hospital, of another one, not existing."""

from __future__ import annotations

from typing import Any

import httpx
from django.urls import get_resolver, resolve

from hplus.accounts.models import STAFF_ROLES
from tests.security import test_chat_isolation as rooms
from tests.security.test_care_data_isolation import (
    MISSING,
    NOBODY,
    READS,
    WRITES,
    a_busy_ward,
    filled,
    routes_of,
    spelt,
)
from tests.security.test_chat_isolation import NOWHERE, bare, client_of
from tests.servers import ThreadServer

Outcome = tuple[int, str]
# The people of the ward's hospital who take no part in anything there; in hospital_002 all of its own.
COLLEAGUES = {role: f"{role}_001" for role in STAFF_ROLES} | {
    "doctor": "doctor_456",
    "paramedic": "paramedic_456",
}
FOREIGNERS = {role: f"{role}_002" for role in STAFF_ROLES}
CHARTS = {"doctor", "nurse", "paramedic", "admin", "receptionist"}  # by the policy, or alerted
# Of the same hospital: the roles that read it; the other roles are answered with this status.
SAME_HOSPITAL: dict[str, tuple[set[str], int]] = {
    "/api/emergencies/E/": (CHARTS, 403),
    "/api/emergencies/E/timeline/": (CHARTS, 403),
    "/api/emergencies/E/track.geojson": (CHARTS, 403),
    "/api/emergencies/E/fhir/": (CHARTS, 403),
    "/api/emergencies/E/calls/": (CHARTS, 403),
    "/api/emergencies/E/part/": (set(), 404),  # only where another hospital has taken it over
    "/api/emergencies/E/nearest/": (set(STAFF_ROLES), 403),
    "/api/calls/C/": ({"admin"}, 404),
    "/api/location/U/": (set(STAFF_ROLES), 403),
    "/api/chat/rooms/R/messages/": ({"admin"}, 404),
    "/api/chat/attachments/A/": ({"admin"}, 404),
}
# Of what is one's own, what a patient does not read.
NOT_FOR_PATIENTS = {"/api/emergencies/E/nearest/": 403, "/api/emergencies/E/part/": 404}


async def answer(
    client: httpx.AsyncClient, method: str, path: str, ids: dict[str, str], body: Any
) -> Outcome:
    """Status and what is said, without the ids."""
    got = await client.request(method, spelt(path, ids), json=body and filled(body, ids))
    return got.status_code, bare(got.text, *ids.values(), NOWHERE, NOBODY)


async def test_each_role_reads_what_is_its_own_or_of_its_hospital_by_the_table(server: ThreadServer) -> None:
    assert set(SAME_HOSPITAL) == {*READS, *rooms.READS}, "an address in no row"
    async with a_busy_ward(server) as ids:
        async with await client_of(server, "patient_123") as patient:
            own = {path: (await answer(patient, "GET", path, ids, None))[0] for path in SAME_HOSPITAL}
        assert own == {path: NOT_FOR_PATIENTS.get(path, 200) for path in SAME_HOSPITAL}
        cells = {}
        for role, user_id in COLLEAGUES.items():
            async with await client_of(server, user_id) as colleague:
                for path in SAME_HOSPITAL:
                    cells[path, role] = (await answer(colleague, "GET", path, ids, None))[0]
        assert cells == {
            (path, role): 200 if role in readers else refusal
            for path, (readers, refusal) in SAME_HOSPITAL.items()
            for role in COLLEAGUES
        }


async def test_each_role_of_another_hospital_is_answered_as_about_nothing(server: ThreadServer) -> None:
    asked = [("GET", path, None) for path in SAME_HOSPITAL] + [("POST", *write) for write in WRITES]
    async with a_busy_ward(server) as ids:
        for user_id in [*FOREIGNERS.values(), "test_user"]:
            async with await client_of(server, user_id) as foreigner:
                for method, path, body in asked:
                    theirs = await answer(foreigner, method, path, ids, body)
                    nothing = await answer(foreigner, method, path, MISSING, body)
                    assert theirs == nothing, (user_id, method, path)
                    assert theirs[0] in (403, 404), (user_id, method, path)


def test_every_address_with_an_id_is_in_a_row() -> None:
    rows = {resolve(path).route for path in (*SAME_HOSPITAL, *(path for path, _ in WRITES))}
    named = {route for route in routes_of(get_resolver().url_patterns) if "<" in route}
    assert {route for route in named if route.startswith("api/")} - rows == set()
