"""The pages of emergencies and hospitals in the admin site: whose they are, and what they do."""

from __future__ import annotations

import html
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
from emergency.actions import transfer, update_status
from emergency.call_for_help import request_help
from emergency.case_report import STALLS
from emergency.messages import RequestHelp, Respond, Transfer, UpdateStatus
from emergency.models import Emergency, HospitalPart, HospitalPolicy
from emergency.policy import change_policy
from emergency.response import respond
from emergency.stalled import check_due
from hplus import errors
from hplus.accounts.models import Hospital, User
from hplus.audit.models import Record
from hplus.management.commands.seed_demo import seed_people
from hplus.realtime.models import Presence
from location.messages import UpdateLocation
from location.recording import record
from tests.admin_site import admin_client_of
from tests.emergency.guide_frames import create_emergency_request

LIST = "/admin/emergency/emergency/"
BOARD = f"{LIST}board/"


@pytest.fixture(autouse=True)
def users(db: None) -> dict[str, User]:
    seed_people()
    return User.objects.in_bulk()


def call_for_help(users: dict[str, User], **request: Any) -> str:
    asked = RequestHelp.read(create_emergency_request(**request))
    answer = request_help(users["patient_123"], asked)
    assert answer.ack_data is not None
    return str(answer.ack_data["emergencyId"])


def page_of(emergency_id: str) -> str:
    return f"{LIST}{emergency_id}/change/"


# Lists and boards of any length


def many(users: dict[str, User], count: int, status: str = "pending") -> None:
    now = timezone.now()
    closed = {"cancelled_at": now} if status == "cancelled" else {}
    Emergency.objects.bulk_create(
        Emergency(
            hospital_id="hospital_001", patient_id=f"p{number}", lat=1.0, lng=2.0, condition="Chest pain",
            priority="high", status=status, requested_by=users["patient_123"], requested_by_role="patient",
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


def test_list_of_ten_thousand_emergencies_takes_no_more_queries_than_ten(users: dict[str, User]) -> None:
    admin_client = admin_client_of("admin_001")
    many(users, 10, "cancelled")
    admin_client.get(LIST)
    few, _ = queries_of(admin_client, LIST)
    many(users, 9_990, "cancelled")
    admin_client.get(LIST)  # what is shown for the first time is recorded
    lots, seconds = queries_of(admin_client, LIST)
    assert lots == few <= 12
    assert seconds < 2


@pytest.mark.parametrize("address", ["/admin/", BOARD])
def test_board_of_many_emergencies_takes_no_more_queries_than_of_few(
    users: dict[str, User], address: str
) -> None:
    admin_client = admin_client_of("admin_001")
    many(users, 2)
    admin_client.get(address)
    few, _ = queries_of(admin_client, address)
    many(users, 298)
    Presence.objects.bulk_create(
        [Presence(pk=pk, status="available") for pk in ("nurse_001", "doctor_123", "paramedic_456")]
    )
    admin_client.get(address)  # what is shown for the first time is recorded
    lots, seconds = queries_of(admin_client, address)
    assert lots == few <= 24
    assert seconds < 2
    board = admin_client.get(BOARD).json()
    assert (len(board["emergencies"]), board["openCount"]) == (200, 300)


def test_long_timeline_takes_no_more_queries_than_a_short_one(users: dict[str, User]) -> None:
    admin_client, emergency_id = admin_client_of("admin_001"), call_for_help(users)
    medic = users["paramedic_456"]
    respond(medic, Respond.read({"emergencyId": emergency_id, "action": "accept"}))
    admin_client.get(page_of(emergency_id))
    few, _ = queries_of(admin_client, page_of(emergency_id))
    for pulse in range(60, 90):
        request = {"emergencyId": emergency_id, "status": "in_progress", "vitals": {"pulse": pulse}}
        update_status(medic, UpdateStatus.read(request))
        say(users, "patient_123", "nurse_001", f"{pulse}?")
    lots, _ = queries_of(admin_client, page_of(emergency_id))
    assert lots == few


# What stands first


def test_board_lists_unassigned_first_then_by_priority(users: dict[str, User]) -> None:
    taken, low, high = (
        call_for_help(users, patientId=priority, priority=priority)
        for priority in ("critical", "low", "high")
    )
    respond(users["doctor_123"], Respond.read({"emergencyId": taken, "action": "accept"}))
    shown = admin_client_of("admin_001").get(BOARD).json()["emergencies"]
    assert [one["emergencyId"] for one in shown] == [high, low, taken]
    assert shown[2]["assignee"] == "Dr. Dana Brook"


def test_board_shows_no_eta_once_the_crew_is_on_scene(users: dict[str, User]) -> None:
    medic, about = users["paramedic_456"], {"emergencyId": call_for_help(users)}
    respond(medic, Respond.read({**about, "action": "accept"}))
    record(
        medic, UpdateLocation.read({**about, "location": {"lat": 37.8, "lng": -122.4}, "isEmergency": True})
    )

    def eta() -> float | None:
        shown: float | None = admin_client_of("admin_001").get(BOARD).json()["emergencies"][0]["etaSeconds"]
        return shown

    assert eta()
    update_status(medic, UpdateStatus.read({**about, "phase": "onScene"}))
    assert eta() is None


# Whose it is


def test_admin_sees_own_hospital_only_and_superuser_any(users: dict[str, User]) -> None:
    emergency_id = call_for_help(users)
    one, two, root = admin_client_of("admin_001"), admin_client_of("admin_002"), admin_client_of("root")
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
    request = {"notes": "x"}
    assert two.post(f"{LIST}{emergency_id}/action/cancel/", request).status_code == 404
    assert Emergency.objects.get().status == "pending"


@pytest.mark.parametrize("user_id", ["nurse_001", "doctor_123", "patient_123"])
def test_other_roles_get_no_board_even_with_staff_flag(users: dict[str, User], user_id: str) -> None:
    emergency_id = call_for_help(users)
    for is_let_in in (False, True):
        User.objects.filter(pk=user_id).update(is_staff=is_let_in)
        admin_client = admin_client_of(user_id)
        for address in (BOARD, LIST, page_of(emergency_id), f"{LIST}{emergency_id}/export/fhir/"):
            answer = admin_client.get(address)
            assert answer.status_code in (302, 403)
            assert b"Chest pain" not in answer.content
        assert b"board-data" not in admin_client.get("/admin/").content


# The page of one


def say(
    users: dict[str, User], sender: str, receiver: str, text: str, hospital: str = "hospital_001"
) -> None:
    request = SendMessage(receiver_id=receiver, hospital_id=hospital, message=text)
    chat.send(users[sender], request)


def test_timeline_has_messages_and_calls_of_this_emergency_only(users: dict[str, User]) -> None:
    say(users, "patient_123", "nurse_001", "Good morning")
    emergency_id = call_for_help(users, vitals={"spo2": 91})
    say(users, "patient_123", "nurse_001", "Please hurry <b>")
    say(users, "patient_123", "nurse_002", "Elsewhere entirely", "hospital_002")
    call = Call.objects.create(
        call_type="audio",
        initiator=users["nurse_001"],
        hospital_id="hospital_001",
        emergency_id=emergency_id,
    )
    for user_id in ("nurse_001", "patient_123"):
        Participant.objects.create(call=call, user=users[user_id])
    answer = admin_client_of("admin_001").get(page_of(emergency_id))
    kinds = [event.kind for event in answer.context["events"]]
    assert kinds == ["requested", "vitals", "alerted", "message", "call"]
    html = answer.content.decode()
    assert "Please hurry &lt;b&gt;" in html
    assert "audio call to Pat Meadow" in html
    assert "Good morning" not in html
    assert "Elsewhere entirely" not in html


def test_reading_exporting_and_changing_an_emergency_is_audited(users: dict[str, User]) -> None:
    admin_client, emergency_id = admin_client_of("admin_001"), call_for_help(users)
    admin_client.get(page_of(emergency_id))
    told = admin_client.get(f"{LIST}{emergency_id}/export/json/")
    assert told["Content-Disposition"].startswith("attachment")
    assert json.loads(told.content)["timeline"][0]["kind"] == "requested"
    bundle = json.loads(admin_client.get(f"{LIST}{emergency_id}/export/fhir/").content)
    assert bundle["resourceType"] == "Bundle"
    admin_client.post(f"{LIST}{emergency_id}/action/cancel/", {"notes": "False alarm"})
    written = Record.objects.filter(object_id=emergency_id).order_by("number").values_list("verb", flat=True)
    assert list(written) == ["read", "export", "export", "change"]


def test_admin_actions_obey_the_same_rules_as_the_socket(users: dict[str, User]) -> None:
    admin_client, emergency_id = admin_client_of("admin_001"), call_for_help(users)

    def do(name: str, **fields: str) -> str:
        answer = admin_client.post(f"{LIST}{emergency_id}/action/{name}/", fields, follow=True)
        return [str(message) for message in answer.context["messages"]][-1]

    assert "reason" in do("assign", assigneeId="doctor_123")
    assert do("assign", assigneeId="doctor_002", reason="x") != "Assigned."
    assert do("assign", assigneeId="doctor_123", reason="Closest") == "Assigned."
    emergency = Emergency.objects.get()
    assert (emergency.assigned_to_id, emergency.status) == ("doctor_123", "accepted")
    root = admin_client_of("root")
    root.post(f"{LIST}{emergency_id}/action/cancel/", {"notes": "x"})
    assert Emergency.objects.get().status != "cancelled"
    assert admin_client.get(f"{LIST}{emergency_id}/action/cancel/").status_code == 405
    assert admin_client.post(f"{LIST}{emergency_id}/action/delete/").status_code == 404
    assert do("transfer", toHospitalId="hospital_002", reason="Full") == "Transferred to the other hospital."
    assert Emergency.objects.get().hospital_id == "hospital_002"
    assert admin_client.get(page_of(emergency_id)).status_code == 302
    assert "transferred it to Hillcrest Clinic" in root.get(page_of(emergency_id)).content.decode()


def test_post_without_csrf_token_is_refused(users: dict[str, User]) -> None:
    emergency_id = call_for_help(users)
    client = admin_client_of("admin_001", enforce_csrf_checks=True)
    assert client.post(f"{LIST}{emergency_id}/action/cancel/", {"notes": "x"}).status_code == 403
    assert Emergency.objects.get().status == "pending"


# A hospital's page

HOSPITAL = "/admin/accounts/hospital/hospital_001/change/"
KEPT = {
    "name": "Riverside General", "alert_roles": ["nurse", "doctor"], "escalate_critical": "20",
    "accept_roles": ["doctor"], "chart_roles": ["doctor", "nurse"], "emergency_number": "144",
    "limit_turnout": "90",
    "target_alert": "5", "target_accept": "45", "target_scene": "400",
}  # fmt: skip


def test_admin_sets_own_hospital_policy_and_no_other(users: dict[str, User]) -> None:
    admin_client = admin_client_of("admin_001")
    assert admin_client.get(HOSPITAL).status_code == 200
    assert admin_client.post(HOSPITAL, KEPT).status_code == 302
    policy = HospitalPolicy.of("hospital_001")
    assert policy.alert_roles == ["nurse", "doctor"]
    assert policy.escalation_seconds == {"critical": 20}
    assert policy.targets == {"alert": 5, "accept": 45, "scene": 400}
    for wrong in ({"alert_roles": ["patient"]}, {"alert_roles": []}, {"escalate_critical": "0"}):
        assert admin_client.post(HOSPITAL, {**KEPT, **wrong}).status_code == 200
    assert HospitalPolicy.of("hospital_001").alert_roles == ["nurse", "doctor"]
    assert admin_client_of("admin_002").post(HOSPITAL, KEPT).status_code == 302
    assert not HospitalPolicy.objects.filter(pk="hospital_002").exists()


def test_policy_names_who_reads_and_accepts_and_each_change_is_in_the_audit(users: dict[str, User]) -> None:
    fresh = HospitalPolicy.of("hospital_001")
    assert fresh.chart_roles == ["doctor", "nurse", "paramedic", "admin"]
    assert fresh.accept_roles == ["paramedic", "doctor", "nurse", "admin"]
    assert (fresh.emergency_number, fresh.limit("turnout").seconds) == ("112", 120)
    admin_client = admin_client_of("admin_001")
    for _ in range(2):
        assert admin_client.post(HOSPITAL, {**KEPT, "mutual_aid": ["hospital_002"]}).status_code == 302
    policy = HospitalPolicy.of("hospital_001")
    assert (policy.accept_roles, policy.chart_roles) == (["doctor"], ["doctor", "nurse"])
    assert (policy.emergency_number, policy.limit_seconds) == ("144", {"turnout": 90})
    assert [hospital.pk for hospital in policy.mutual_aid.all()] == ["hospital_002"]
    changes = Record.objects.filter(object_type="emergency.hospitalpolicy", object_id="hospital_001")
    written = changes.get()  # the second time nothing was different
    assert (written.actor_id, written.hospital_id) == ("admin_001", "hospital_001")
    assert written.details["changed"]["emergency_number"] == {"from": "112", "to": "144"}
    assert written.details["changed"]["mutual_aid"] == {"from": [], "to": ["hospital_002"]}
    for wrong in (
        {"accept_roles": []}, {"chart_roles": ["patient"]}, {"emergency_number": "call me"},
        {"mutual_aid": ["hospital_001"]}, {"limit_object": "-1"},
    ):  # fmt: skip
        assert admin_client.post(HOSPITAL, {**KEPT, **wrong}).status_code == 200, wrong
    assert HospitalPolicy.of("hospital_001").emergency_number == "144"
    with pytest.raises(errors.Forbidden):
        change_policy(users["admin_002"], policy, [])
    with pytest.raises(errors.Forbidden):
        change_policy(users["doctor_123"], policy, [])


def test_superuser_sets_policy_but_not_diversion(users: dict[str, User]) -> None:
    assert admin_client_of("root").post(HOSPITAL, {**KEPT, "is_on_diversion": "on"}).status_code == 302
    assert not Hospital.objects.get(pk="hospital_001").is_on_diversion
    assert HospitalPolicy.of("hospital_001").targets["accept"] == 45


def test_admin_corrects_an_emergency_and_the_page_tells_the_value_before(users: dict[str, User]) -> None:
    emergency_id, admin_client = call_for_help(users), admin_client_of("admin_001")
    request = {"priority": "critical", "patientAge": "8", "accessNotes": "", "reason": "not breathing"}
    answer = admin_client.post(f"{LIST}{emergency_id}/action/amend/", request, follow=True)
    assert b"Corrected." in answer.content
    row = Emergency.objects.get(pk=emergency_id)
    assert (row.priority, row.patient_age, row.access_notes) == ("critical", 8, None)
    assert "patient age: – → 8" in admin_client.get(page_of(emergency_id)).content.decode()
    refused = admin_client.post(f"{LIST}{emergency_id}/action/amend/", {"reason": "nothing"}, follow=True)
    assert b"Field required" in refused.content
    elsewhere = admin_client_of("admin_002").post(f"{LIST}{emergency_id}/action/amend/", request)
    assert elsewhere.status_code == 404


def test_dispatcher_quiets_the_reminders_of_a_stalled_emergency(users: dict[str, User]) -> None:
    HospitalPolicy.objects.create(hospital_id="hospital_001", limit_seconds={"unreachable": 0})
    emergency_id = call_for_help(users)
    respond(users["paramedic_456"], Respond(emergency_id=emergency_id, action="accept"))
    admin_client = admin_client_of(users["admin_001"])
    button = "ask nobody for 5 minutes"
    assert button not in admin_client.get(page_of(emergency_id)).content.decode()
    assert check_due() == 1
    page = admin_client.get(page_of(emergency_id)).content.decode()
    assert button in page
    assert STALLS["unreachable"] in html.unescape(page)
    [row] = admin_client.get(BOARD).json()["emergencies"]
    assert row["stalled"] == STALLS["unreachable"]
    for client in (admin_client_of(users["admin_002"]), admin_client):
        client.post(f"{LIST}{emergency_id}/action/acknowledge/")
    emergency = Emergency.objects.get()
    assert emergency.stalled_cause == ""
    assert emergency.check_at is not None
    assert emergency.check_at > timezone.now() + timedelta(minutes=4)
    assert "has seen it" in admin_client.get(page_of(emergency_id)).content.decode()
    assert emergency.entries.filter(kind="acknowledged").count() == 1


def test_hospital_keeps_and_reads_its_part_of_a_transferred_emergency(users: dict[str, User]) -> None:
    emergency_id = call_for_help(users)
    request = Transfer(emergency_id=emergency_id, to_hospital_id="hospital_002", reason="burns unit")
    transfer(users["nurse_001"], request)
    parts = "/admin/emergency/hospitalpart/"
    part = HospitalPart.objects.get()
    own, elsewhere = admin_client_of(users["admin_001"]), admin_client_of(users["admin_002"])
    assert emergency_id in own.get(parts).content.decode()
    page = own.get(f"{parts}{part.pk}/change/").content.decode()
    assert "burns unit" in page
    assert Record.objects.filter(verb="read", object_id=emergency_id, details__surface="part page").exists()
    assert emergency_id not in elsewhere.get(parts).content.decode()
    assert elsewhere.get(f"{parts}{part.pk}/change/").status_code == 302
