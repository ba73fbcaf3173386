"""What may leave the house leaves it without formulas, without secrets, and not unnoticed."""

from __future__ import annotations

import csv
from io import StringIO

import pytest
from django.test import Client

from calls.models import Call
from emergency.models import Emergency
from hplus.accounts.models import Session, User
from hplus.audit.actions import record
from hplus.audit.models import Record, Verb
from hplus.management.commands.seed_demo import seed_calls, seed_emergencies, seed_history, seed_people
from tests.fault_report import note

FORMULA = '=HYPERLINK("https://evil.example","x")'


@pytest.fixture(autouse=True)
def users(db: None) -> dict[str, User]:
    seed_people()
    seed_history()
    return User.objects.in_bulk()


def exported(admin_client: Client, page: str, ids: list[str]) -> list[dict[str, str]]:
    response = admin_client.post(page, {"action": "export_csv", "_selected_action": ids})
    assert response["Content-Type"].startswith("text/csv")
    content = response.getvalue()
    assert content.startswith(b"\xef\xbb\xbf")  # Excel knows UTF-8 by it
    rows = list(csv.DictReader(StringIO(content.decode("utf-8-sig"), newline="")))
    times = [value for row in rows for name, value in row.items() if name.endswith("at") and value]
    assert all(time.endswith("Z") for time in times)
    return rows


@pytest.mark.parametrize(
    "risky",
    [FORMULA, "+1", "-1", "@SUM(A1)", "\t+1", "\tplain", "\rplain", "\n=1", "  =1", "＝1", "\u00a0=1"],
)
def test_formula_is_exported_as_text(admin_client: Client, risky: str) -> None:
    """Whatever a spreadsheet would take for the beginning of one (OWASP, CSV injection)."""
    User.objects.filter(pk="nurse_001").update(name=risky, department="plain - text; =1")
    [row] = exported(admin_client, "/admin/accounts/user/", ["nurse_001"])
    note("CSV formulas", let_in=int(row["name"] != f"'{risky}"))
    assert (row["user_id"], row["name"]) == ("nurse_001", f"'{risky}")
    assert row["department"] == "plain - text; =1"
    assert "password" not in row


def test_semicolon_in_a_name_does_not_start_a_cell(admin_client: Client) -> None:
    User.objects.filter(pk="nurse_001").update(name="Nora;=1+1")
    asked = {"action": "export_csv", "_selected_action": ["nurse_001"]}
    lines = admin_client.post("/admin/accounts/user/", asked).getvalue().decode().splitlines()
    assert '"Nora;=1+1"' in lines[1]


def test_emergencies_and_calls_are_exported_without_patients(admin_client: Client) -> None:
    seed_emergencies()
    seed_calls()
    for page, model in (("emergency/emergency", Emergency), ("calls/call", Call)):
        here = [str(row.pk) for row in model.objects.filter(hospital="hospital_001")]
        asked = [str(row.pk) for row in model.objects.all()]
        rows = exported(admin_client, f"/admin/{page}/", asked)
        assert [next(iter(row.values())) for row in rows] == sorted(here)
        assert not {"Ali Brandt", "walk_in_17", "Chest pain"} & {
            cell for row in rows for cell in row.values()
        }


def test_rows_of_the_other_hospital_are_not_exported(admin_client: Client) -> None:
    rows = exported(admin_client, "/admin/accounts/user/", ["nurse_001", "nurse_002", "doctor_002"])
    assert [row["user_id"] for row in rows] == ["nurse_001"]
    written = Record.objects.get(verb=Verb.EXPORT)
    assert (written.actor_id, written.object_type, written.details) == (
        "admin_001",
        "accounts.user",
        {"rows": 1},
    )


def test_conversations_are_exported_without_texts(admin_client: Client) -> None:
    response = admin_client.post(
        "/admin/chat/chatroom/", {"action": "export_csv", "_selected_action": ["x"], "select_across": "1"}
    )
    sheet = response.getvalue()
    assert b"doctor_456" in sheet
    assert b"chest" not in sheet


def test_audit_is_exported_with_its_digests(admin_client: Client, users: dict[str, User]) -> None:
    here, there = (record(users["root"], Verb.READ, users[name]) for name in ("doctor_123", "doctor_002"))
    rows = exported(admin_client, "/admin/audit/record/", [str(here.pk), str(there.pk)])
    assert [(row["number"], row["digest"]) for row in rows] == [(str(here.pk), here.digest)]


def test_models_without_export_have_no_export_action(admin_client: Client) -> None:
    for page in ("/admin/chat/message/", "/admin/accounts/session/", "/admin/push/pushdevice/"):
        assert "export_csv" not in admin_client.get(page).content.decode()


def test_sign_out_action_reaches_own_staff_only(admin_client: Client, users: dict[str, User]) -> None:
    for name in ("nurse_001", "nurse_002"):
        Session.objects.create(user=users[name])
    asked = {"action": "sign_out", "_selected_action": ["nurse_001", "nurse_002"]}
    admin_client.post("/admin/accounts/user/", asked)
    assert list(Session.objects.exclude(revoked_at=None).values_list("user", flat=True)) == ["nurse_001"]
