"""The pages of emergencies and hospitals in the admin site: whose they are, and what they do."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from calls.models import Call, Participant
from chat import actions as chat
from chat.messages import SendMessage
from emergency.actions import update_status
from emergency.call_for_help import request_help
from emergency.messages import RequestHelp, Respond, UpdateStatus
from emergency.models import Emergency, HospitalPolicy
from emergency.response import respond
from hplus.accounts.models import Hospital, User
from hplus.audit.models import Record
from hplus.management.commands.seed_demo import seed_people
from hplus.realtime.models import Presence
from location.messages import TellLocation
from location.recording import record
from tests.admin_site import desk_of
from tests.emergency.guide import create_emergency_request

LIST = "/admin/emergency/emergency/"
BOARD = f"{LIST}board/"


@pytest.fixture(autouse=True)
def people(db: None) -> dict[str, User]:
    seed_people()
    return User.objects.in_bulk()


def call_for_help(people: dict[str, User], **wish: Any) -> str:
    asked = RequestHelp.read(create_emergency_request(**wish))
    answer = request_help(people["patient_123"], asked)
    assert answer.ack_data is not None
    return str(answer.ack_data["emergencyId"])


def page_of(emergency_id: str) -> str:
    return f"{LIST}{emergency_id}/change/"


# Lists and boards of any length


def many(people: dict[str, User], count: int, status: str = "pending") -> None:
    now = timezone.now()
    closed = {"cancelled_at": now} if status == "cancelled" else {}
    Emergency.objects.bulk_create(
        Emergency(
            hospital_id="hospital_001", patient_id=f"p{number}", lat=1.0, lng=2.0, condition="Chest pain",
            priority="high", status=status, requested_by=people["patient_123"], requested_by_role="patient",
            requested_at=now - timedelta(seconds=number), alerted_at=now, **closed,
        )
        for number in range(count)
    )  # fmt: skip


def queries_of(client: Client, address: str) -> tuple[int, float]:
    begun = timezone.now()
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(address).status_code == 200
    return len(captured), (timezone.now() - begun).total_seconds()


def test_ten_thousand_emergencies_open_in_as_many_queries_as_ten(people: dict[str, User]) -> None:
    desk = desk_of("admin_001")
    many(people, 10, "cancelled")
    desk.get(LIST)
    few, _ = queries_of(desk, LIST)
    many(people, 9_990, "cancelled")
    lots, seconds = queries_of(desk, LIST)
    assert lots == few <= 12
    assert seconds < 2


@pytest.mark.parametrize("address", ["/admin/", BOARD])
def test_the_board_asks_as_little_for_many_as_for_few(people: dict[str, User], address: str) -> None:
    desk = desk_of("admin_001")
    many(people, 2)
    desk.get(address)
    few, _ = queries_of(desk, address)
    many(people, 298)
    Presence.objects.bulk_create(
        [Presence(pk=pk, status="available") for pk in ("nurse_001", "doctor_123", "paramedic_456")]
    )
    lots, seconds = queries_of(desk, address)
    assert lots == few <= 24
    assert seconds < 2
    board = desk.get(BOARD).json()
    assert (len(board["emergencies"]), board["openCount"]) == (200, 300)


def test_a_long_story_takes_as_many_queries_as_a_short_one(people: dict[str, User]) -> None:
    desk, emergency_id = desk_of("admin_001"), call_for_help(people)
    medic = people["paramedic_456"]
    respond(medic, Respond.read({"emergencyId": emergency_id, "action": "accept"}))
    desk.get(page_of(emergency_id))
    few, _ = queries_of(desk, page_of(emergency_id))
    for pulse in range(60, 90):
        wish = {"emergencyId": emergency_id, "status": "in_progress", "vitals": {"pulse": pulse}}
        update_status(medic, UpdateStatus.read(wish))
        say(people, "patient_123", "nurse_001", f"{pulse}?")
    lots, _ = queries_of(desk, page_of(emergency_id))
    assert lots == few


# What stands first


def test_what_nobody_has_taken_stands_first_then_what_is_worst(people: dict[str, User]) -> None:
    taken, low, high = (
        call_for_help(people, patientId=priority, priority=priority)
        for priority in ("critical", "low", "high")
    )
    respond(people["doctor_123"], Respond.read({"emergencyId": taken, "action": "accept"}))
    shown = desk_of("admin_001").get(BOARD).json()["emergencies"]
    assert [one["emergencyId"] for one in shown] == [high, low, taken]
    assert shown[2]["assignee"] == "Dr. Dana Brook"


def test_whoever_is_there_is_no_longer_awaited(people: dict[str, User]) -> None:
    medic, about = people["paramedic_456"], {"emergencyId": call_for_help(people)}
    respond(medic, Respond.read({**about, "action": "accept"}))
    record(medic, TellLocation.read({**about, "location": {"lat": 37.8, "lng": -122.4}, "isEmergency": True}))

    def eta() -> float | None:
        shown: float | None = desk_of("admin_001").get(BOARD).json()["emergencies"][0]["etaSeconds"]
        return shown

    assert eta()
    update_status(medic, UpdateStatus.read({**about, "phase": "onScene"}))
    assert eta() is None


# Whose it is


def test_each_admin_has_the_own_hospital_and_a_superuser_chooses(people: dict[str, User]) -> None:
    emergency_id = call_for_help(people)
    one, two, root = desk_of("admin_001"), desk_of("admin_002"), desk_of("root")
    assert len(one.get(BOARD).json()["emergencies"]) == 1
    assert two.get(BOARD).json()["emergencies"] == []
    for address in (f"{BOARD}?hospital=hospital_001", "/admin/?hospital=hospital_001"):
        assert two.get(address).status_code == 404
        assert root.get(address).status_code == 200
    assert root.get(f"{BOARD}?hospital=nowhere").status_code == 404
    assert len(root.get(f"{BOARD}?hospital=hospital_001").json()["emergencies"]) == 1
    assert root.get(f"{BOARD}?hospital=hospital_002").json()["emergencies"] == []

    assert two.get(page_of(emergency_id)).status_code == 302
    assert two.get(f"{LIST}{emergency_id}/export/json/").status_code == 404
    wish = {"notes": "x"}
    assert two.post(f"{LIST}{emergency_id}/deed/cancel/", wish).status_code == 404
    assert Emergency.objects.get().status == "pending"


@pytest.mark.parametrize("user_id", ["nurse_001", "doctor_123", "patient_123"])
def test_who_runs_no_hospital_has_no_board(people: dict[str, User], user_id: str) -> None:
    emergency_id = call_for_help(people)
    for is_let_in in (False, True):
        User.objects.filter(pk=user_id).update(is_staff=is_let_in)
        desk = desk_of(user_id)
        for address in (BOARD, LIST, page_of(emergency_id), f"{LIST}{emergency_id}/export/fhir/"):
            answer = desk.get(address)
            assert answer.status_code in (302, 403)
            assert b"Chest pain" not in answer.content
        assert b"board-data" not in desk.get("/admin/").content


# The page of one


def say(
    people: dict[str, User], sender: str, receiver: str, text: str, hospital: str = "hospital_001"
) -> None:
    wish = SendMessage(receiver_id=receiver, hospital_id=hospital, message=text)
    chat.send(people[sender], wish)


def test_the_story_has_what_was_said_and_who_called(people: dict[str, User]) -> None:
    say(people, "patient_123", "nurse_001", "Good morning")
    emergency_id = call_for_help(people, vitals={"spo2": 91})
    say(people, "patient_123", "nurse_001", "Please hurry <b>")
    say(people, "patient_123", "nurse_002", "Elsewhere entirely", "hospital_002")
    call = Call.objects.create(
        call_type="audio",
        initiator=people["nurse_001"],
        hospital_id="hospital_001",
        emergency_id=emergency_id,
    )
    for user_id in ("nurse_001", "patient_123"):
        Participant.objects.create(call=call, user=people[user_id])
    answer = desk_of("admin_001").get(page_of(emergency_id))
    kinds = [moment.kind for moment in answer.context["story"]]
    assert kinds == ["requested", "vitals", "alerted", "message", "call"]
    html = answer.content.decode()
    assert "Please hurry &lt;b&gt;" in html
    assert "audio call to Pat Meadow" in html
    assert "Good morning" not in html
    assert "Elsewhere entirely" not in html


def test_who_opened_exported_or_changed_it_is_recorded(people: dict[str, User]) -> None:
    desk, emergency_id = desk_of("admin_001"), call_for_help(people)
    desk.get(page_of(emergency_id))
    told = desk.get(f"{LIST}{emergency_id}/export/json/")
    assert told["Content-Disposition"].startswith("attachment")
    assert json.loads(told.content)["timeline"][0]["kind"] == "requested"
    bundle = json.loads(desk.get(f"{LIST}{emergency_id}/export/fhir/").content)
    assert bundle["resourceType"] == "Bundle"
    desk.post(f"{LIST}{emergency_id}/deed/cancel/", {"notes": "False alarm"})
    written = Record.objects.filter(object_id=emergency_id).order_by("number").values_list("verb", flat=True)
    assert list(written) == ["read", "export", "export", "change"]


def test_what_is_done_here_follows_the_rules_of_the_socket(people: dict[str, User]) -> None:
    desk, emergency_id = desk_of("admin_001"), call_for_help(people)

    def do(name: str, **fields: str) -> str:
        answer = desk.post(f"{LIST}{emergency_id}/deed/{name}/", fields, follow=True)
        return [str(message) for message in answer.context["messages"]][-1]

    assert "reason" in do("assign", assigneeId="doctor_123")
    assert do("assign", assigneeId="doctor_002", reason="x") != "Assigned."
    assert do("assign", assigneeId="doctor_123", reason="Closest") == "Assigned."
    emergency = Emergency.objects.get()
    assert (emergency.assigned_to_id, emergency.status) == ("doctor_123", "accepted")
    root = desk_of("root")
    root.post(f"{LIST}{emergency_id}/deed/cancel/", {"notes": "x"})
    assert Emergency.objects.get().status != "cancelled"
    assert desk.get(f"{LIST}{emergency_id}/deed/cancel/").status_code == 405
    assert desk.post(f"{LIST}{emergency_id}/deed/delete/").status_code == 404
    assert do("transfer", toHospitalId="hospital_002", reason="Full") == "Transferred to the other hospital."
    assert Emergency.objects.get().hospital_id == "hospital_002"
    assert desk.get(page_of(emergency_id)).status_code == 302
    assert "transferred it to Hillcrest Clinic" in root.get(page_of(emergency_id)).content.decode()


def test_nothing_is_done_without_the_token_of_the_form(people: dict[str, User]) -> None:
    emergency_id = call_for_help(people)
    client = desk_of("admin_001", enforce_csrf_checks=True)
    assert client.post(f"{LIST}{emergency_id}/deed/cancel/", {"notes": "x"}).status_code == 403
    assert Emergency.objects.get().status == "pending"


# A hospital's page

HOSPITAL = "/admin/accounts/hospital/hospital_001/change/"
KEPT = {
    "name": "Riverside General", "alert_roles": ["nurse", "doctor"], "escalate_critical": "20",
    "target_alert": "5", "target_accept": "45", "target_scene": "400",
}  # fmt: skip


def test_a_hospitals_policy_is_set_on_its_page(people: dict[str, User]) -> None:
    desk = desk_of("admin_001")
    assert desk.get(HOSPITAL).status_code == 200
    assert desk.post(HOSPITAL, KEPT).status_code == 302
    policy = HospitalPolicy.of("hospital_001")
    assert policy.alert_roles == ["nurse", "doctor"]
    assert policy.escalation_seconds == {"critical": 20}
    assert policy.targets == {"alert": 5, "accept": 45, "scene": 400}
    for wrong in ({"alert_roles": ["patient"]}, {"alert_roles": []}, {"escalate_critical": "0"}):
        assert desk.post(HOSPITAL, {**KEPT, **wrong}).status_code == 200
    assert HospitalPolicy.of("hospital_001").alert_roles == ["nurse", "doctor"]
    assert desk_of("admin_002").post(HOSPITAL, KEPT).status_code == 302
    assert not HospitalPolicy.objects.filter(pk="hospital_002").exists()


def test_a_superuser_sets_the_policy_and_leaves_diversion_to_the_hospital(people: dict[str, User]) -> None:
    assert desk_of("root").post(HOSPITAL, {**KEPT, "is_on_diversion": "on"}).status_code == 302
    assert not Hospital.objects.get(pk="hospital_001").is_on_diversion
    assert HospitalPolicy.of("hospital_001").targets["accept"] == 45
