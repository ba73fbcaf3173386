"""A caller who is not the patient is shown the own words, and nothing that the staff wrote over them."""

from __future__ import annotations

from typing import Any

import pytest

from emergency.call_for_help import request_help
from emergency.current_state import state_of
from emergency.messages import RequestHelp
from emergency.models import Emergency
from hplus.accounts.models import User
from hplus.protocol.wire import REMOVED, encode
from tests.emergency import guide_frames
from tests.servers import ThreadServer
from tests.stories.test_charts import SECRET, call, http_of

AMENDED = {
    "description": SECRET,
    "condition": SECRET,
    "patientName": SECRET,
    "patientPhone": SECRET[:50],
    "callerName": SECRET,
}


@pytest.mark.parametrize("said", [{}, {"description": "fell from a ladder", "patientName": "a neighbour"}])
async def test_caller_is_shown_the_own_words_and_no_amended_ones(
    server: ThreadServer, said: dict[str, Any]
) -> None:
    silent = dict.fromkeys(("description", "patientName", "patientPhone"))
    async with (
        server.phone("test_user", "patient") as caller,
        server.phone("admin_001", "admin", "hospital_001") as admin,
    ):
        sent = {"condition": "collapsed", **silent, **said}
        emergency_id = await call(caller, patientId="patient_123", **sent)
        amended = {"changes": AMENDED, "reason": "told by the family"}
        assert (await admin.ask("emergencyAmend", emergencyId=emergency_id, **amended))["type"] == "ack"
        heard = await caller.expect("emergencyAmended", emergencyId=emergency_id)
        shown = guide_frames.emergency_request(heard["data"]["emergency"])
        assert {name: shown[name] for name in sent} == sent
        await caller.echo()
        assert SECRET not in encode({"frames": caller.history}).decode()
        full = await admin.expect("emergencyAmended", emergencyId=emergency_id)
        assert full["data"]["emergency"]["description"] == SECRET
    http = http_of(server, "test_user")
    detail = http.get(f"/api/emergencies/{emergency_id}/")
    assert {name: detail.json()[name] for name in sent} == sent
    assert SECRET not in detail.text + http.get("/api/emergencies/").text


def test_anonymised_call_has_no_words_left(users: dict[str, User]) -> None:
    fields = {**guide_frames.TEST_EMERGENCY, "patientId": "walk_in_1", "description": SECRET}
    request_help(users["test_user"], RequestHelp.read(fields))
    shown = state_of(Emergency.objects.get()).for_caller({})
    assert (shown.condition, shown.description, shown.patient_name) == (REMOVED, None, None)
