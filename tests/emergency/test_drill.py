"""`manage.py drill` plays emergencies against a running server, and tells when something was lost."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from emergency.drill import Drill, DrillClient
from emergency.models import Emergency, HospitalPolicy
from hplus.accounts.models import Hospital, User
from tests.servers import ThreadServer
from tests.services import free_port
from tests.waiting import PATIENCE_SECONDS


def drill(server: ThreadServer, **options: Any) -> str:
    said = StringIO()
    options = {"emergencies": 4, "patients": 2, "crews": 3, "patience": PATIENCE_SECONDS, **options}
    call_command("drill", url=f"ws://127.0.0.1:{server.port}", stdout=said, **options)
    return said.getvalue()


def test_drill_of_emergencies_reports_no_loss(server: ThreadServer) -> None:
    found = json.loads(drill(server, json=True))
    assert found["emergencies"] == 4
    assert found["lost"] == []
    for step in ("alert", "accept", "scene"):
        assert found["steps"][step]["count"] == 4
        assert 0 < found["steps"][step]["p50"] <= found["steps"][step]["p99"]
    assert Emergency.objects.filter(status="completed").count() == 4


def test_drill_with_tokens_prints_a_table(server: ThreadServer, settings: Any) -> None:
    settings.HPLUS_DEMO = False
    last = drill(server, emergencies=1).splitlines()[-1]
    assert last == "1 emergencies, 0 lost"


def test_drill_with_a_loss_exits_with_1(server: ThreadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    expect_alerts = Drill._expect_alerts

    async def expect_alerts_impatiently(self: Drill, crews: list[DrillClient], *more: Any) -> None:
        for crew in crews:
            crew.patience_seconds = 0.1  # for what never comes
        await expect_alerts(self, crews, *more)
        for crew in crews:
            crew.patience_seconds = PATIENCE_SECONDS

    monkeypatch.setattr(Drill, "_expect_alerts", expect_alerts_impatiently)
    Hospital.objects.create(pk="drill_hospital", name="Drill")
    HospitalPolicy.objects.create(hospital_id="drill_hospital", alert_roles=["nurse"])
    with pytest.raises(CommandError, match="never got the alert") as lost:
        drill(server, emergencies=1, crews=1)
    assert lost.value.returncode == 1


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("url", ["ws://127.0.0.1:{port}", "http://127.0.0.1:{port}", "somewhere"])
def test_drill_without_a_server_says_what_to_do(url: str) -> None:
    with pytest.raises(CommandError, match="make run"):
        call_command("drill", url=url.format(port=free_port()), emergencies=1)


def test_drill_against_a_url_without_websocket_fails(server: ThreadServer) -> None:
    with pytest.raises(CommandError, match="make run"):
        call_command("drill", url=f"ws://127.0.0.1:{server.port}/nowhere/", emergencies=1)


def test_drill_quotes_the_refusal_of_the_server(server: ThreadServer) -> None:
    User.objects.create_user("drill_patient_1", role="nurse", hospital_id="hospital_001")
    with pytest.raises(CommandError, match=r"the drill in .AUTHENTICATION_FAILED"):
        drill(server, emergencies=1)


@pytest.mark.parametrize("wrong", [{"emergencies": 0}, {"patients": -1}, {"patience": 0}, {"patience": -1}])
def test_drill_of_zero_emergencies_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(CommandError, match="A drill needs"):
        call_command("drill", **wrong)
