"""The audit names what the board has shown: neither what found no place on it nor what is hidden there."""

from __future__ import annotations

import pytest

from emergency import board, charts
from emergency.call_for_help import request_help
from emergency.messages import RequestHelp
from emergency.models import HospitalPolicy
from hplus.accounts.models import User
from hplus.audit.models import Record, Verb
from tests.admin_site import admin_client_of
from tests.emergency import guide_frames

ADDRESS = "/admin/emergency/emergency/board/"


def _call(user: User, priority: str) -> str:
    fields = {**guide_frames.TEST_EMERGENCY, "patientId": user.pk, "priority": priority}
    return str((request_help(user, RequestHelp.read(fields)).ack_data or {})["emergencyId"])


def _recorded() -> list[dict[str, str]]:
    rows = Record.objects.filter(verb=Verb.READ, details__surface="board").order_by("number")
    return [row.details["whose"] for row in rows]


def test_row_beyond_the_limit_of_the_board_is_not_recorded_as_read(
    users: dict[str, User], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "MAX_ROWS", 1)
    shown = _call(users["patient_123"], "critical")
    beyond = _call(users["test_user"], "low")
    client = admin_client_of(users["admin_001"])
    content = client.get(ADDRESS).json()
    assert ([row["emergencyId"] for row in content["emergencies"]], content["openCount"]) == ([shown], 2)
    assert _recorded() == [{shown: "patient_123"}]
    monkeypatch.setattr(board, "MAX_ROWS", 2)
    client.get(ADDRESS)
    assert _recorded() == [{shown: "patient_123"}, {beyond: "test_user"}]


def test_row_without_its_chart_is_not_recorded_as_read(users: dict[str, User]) -> None:
    roles = {"alert_roles": ["doctor"], "chart_roles": ["doctor"]}
    HospitalPolicy.objects.create(hospital_id="hospital_001", **roles)
    _call(users["patient_123"], "high")
    [row] = charts.read_board(users["admin_001"], users["admin_001"].hospital).emergencies
    assert (row.condition, row.patient) == ("", "")
    assert _recorded() == []
