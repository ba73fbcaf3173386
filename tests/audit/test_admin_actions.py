"""What the admins do is written into the audit, and they can read it there and not change it."""

from __future__ import annotations

import pytest
from django.test import Client

from hplus.accounts import actions
from hplus.accounts.models import Session, User
from hplus.audit.actions import record, verify
from hplus.audit.models import Record, Verb
from hplus.management.commands.seed_demo import PASSWORD, seed_history, seed_people
from tests.admin_site import admin_client_of


@pytest.fixture(autouse=True)
def users(db: None) -> dict[str, User]:
    seed_people()
    seed_history()
    return User.objects.in_bulk()


def lines(verb: Verb) -> list[tuple[str, str, str, str]]:
    found = Record.objects.filter(verb=verb).order_by("number")
    return list(found.values_list("actor_id", "object_type", "object_id", "hospital_id"))


def test_sign_in_and_sign_out_are_recorded(users: dict[str, User]) -> None:
    client = Client()
    client.post("/admin/login/", {"username": "admin_001", "password": PASSWORD, "next": "/admin/"})
    client.post("/admin/logout/")
    who = ("admin_001", "accounts.user", "admin_001", "hospital_001")
    assert lines(Verb.LOGIN) == [who]
    assert lines(Verb.LOGOUT) == [who]
    actions.sign_in("doctor_123", PASSWORD)
    assert lines(Verb.LOGIN)[-1] == ("doctor_123", "accounts.user", "doctor_123", "hospital_001")


def test_change_record_names_fields_without_values(admin_client: Client) -> None:
    request = {"name": "Nora Quiet", "role": "nurse", "hospital": "hospital_001"}
    assert admin_client.post("/admin/accounts/user/nurse_001/change/", request).status_code == 302
    assert lines(Verb.CHANGE) == [("admin_001", "accounts.user", "nurse_001", "hospital_001")]
    written = Record.objects.get(verb=Verb.CHANGE)
    assert written.details == {"fields": ["Name", "Department"]}
    assert "Quiet" not in str(vars(written))


def test_bulk_action_is_recorded_for_each_row(admin_client: Client, users: dict[str, User]) -> None:
    sessions = [Session.objects.create(user=users[name]) for name in ("nurse_001", "doctor_123")]
    asked = {"action": "revoke", "_selected_action": [str(session.pk) for session in sessions]}
    admin_client.post("/admin/accounts/session/", asked)
    assert len(lines(Verb.CHANGE)) == 2
    assert Record.objects.filter(verb=Verb.CHANGE).first().details == {"what": "Revoked."}  # type: ignore[union-attr]


def test_records_of_another_hospital_are_not_listed(admin_client: Client, users: dict[str, User]) -> None:
    here = record(users["root"], Verb.READ, users["doctor_123"])
    there = record(users["root"], Verb.READ, users["doctor_002"])
    shown = admin_client.get("/admin/audit/record/").content.decode()
    assert "doctor_123" in shown
    assert "doctor_002" not in shown
    assert admin_client.get(f"/admin/audit/record/{here.pk}/change/").status_code == 200
    assert admin_client.get(f"/admin/audit/record/{there.pk}/change/").status_code == 302


@pytest.mark.parametrize("who", ["admin_001", "root"])
def test_audit_admin_is_read_only(users: dict[str, User], who: str) -> None:
    line, admin_client = record(users["root"], Verb.READ, users["doctor_123"]), admin_client_of(users[who])
    there = f"/admin/audit/record/{line.pk}"
    assert admin_client.get("/admin/audit/record/add/").status_code == 403
    assert admin_client.post(f"{there}/change/", {"actor_id": "nobody"}).status_code == 403
    assert admin_client.post(f"{there}/delete/", {"post": "yes"}).status_code == 403
    admin_client.post("/admin/audit/record/", {"action": "delete_selected", "_selected_action": [line.pk]})
    assert Record.objects.filter(pk=line.pk, actor_id="root").exists()
    assert verify()[1] == []
