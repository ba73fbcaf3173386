"""Who may see which rows is decided in one place, and an id that no row can have is not found."""

from __future__ import annotations

import re
import uuid
from typing import Any
from urllib.parse import quote

import pytest
from django.apps import apps
from django.test import Client

from hplus import errors
from hplus.accounts.models import User
from hplus.management.commands.seed_demo import seed_people
from hplus.tenancy import TenancyQuerySet
from tests.admin_site import admin_client_of, page
from tests.call_count import PACKAGES, ROOT
from tests.full_dataset import LISTS, fill

OWN_APPS = (
    "accounts",
    "audit",
    "calls",
    "chat",
    "emergency",
    "location",
    "notifications",
    "push",
    "realtime",
)
OF_A_CHECKED_ROW = "read only with its parent row, which is loaded through visible_to"
OF_THE_USER = "read only by the user's own id"
OF_THE_INSTALLATION = "holds nothing of a hospital or a person"
WITHOUT: dict[str, str] = {
    "accounts.FailedSignIns": "found only by the hash of what it counts",
    "accounts.Token": "found only by its secret",
    "audit.Head": OF_THE_INSTALLATION,
    "calls.Participant": OF_A_CHECKED_ROW,
    "chat.Revision": OF_A_CHECKED_ROW,
    "emergency.AidRequest": OF_A_CHECKED_ROW,
    "emergency.Alert": OF_A_CHECKED_ROW,
    "emergency.Entry": OF_A_CHECKED_ROW,
    "emergency.RepeatedCall": OF_A_CHECKED_ROW,
    "realtime.Contact": OF_THE_USER,
    "realtime.Epoch": OF_THE_INSTALLATION,
    "realtime.Installation": OF_THE_INSTALLATION,
    "realtime.JobState": OF_THE_INSTALLATION,
    "realtime.Mailbox": OF_THE_USER,
    "realtime.MailboxEntry": OF_THE_USER,
    "realtime.Presence": "read only for contacts of the user",
    "realtime.ServerProcess": OF_THE_INSTALLATION,
}
MODELS: list[Any] = [model for model in apps.get_models() if model._meta.app_label in OWN_APPS]
GUARDED = [model for model in MODELS if model._meta.label not in WITHOUT]
IMPOSSIBLE = ["a\x00b", "\x00", "\ud800", "x" * 10_000, "", "-1", str(10**30), "not an id", str(uuid.uuid4())]


def test_each_model_has_the_base_or_a_reason_to_have_none() -> None:
    with_base = {model._meta.label for model in MODELS if isinstance(model.objects.all(), TenancyQuerySet)}
    assert with_base.isdisjoint(WITHOUT)
    assert with_base | WITHOUT.keys() == {model._meta.label for model in MODELS}


def test_each_app_with_models_is_walked() -> None:
    ours = {app.label for app in apps.get_app_configs() if not app.path.count("site-packages")}
    assert {label for label in ours if list(apps.get_app_config(label).get_models())} == set(OWN_APPS)


def test_superuser_rule_and_guard_stand_only_in_the_base() -> None:
    for model in GUARDED:
        own = vars(type(model.objects.all()))
        assert "visibility" in own, model
        assert not own.keys() & {"visible_to", "with_id", "find"}, model


def test_nul_is_looked_for_in_one_place_and_in_the_bytes_of_files() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    guards = {path.name for path in files if re.search(r"[\"']\\(x00|0)[\"'] (not )?in ", path.read_text())}
    assert guards == {"file_types.py"}


@pytest.fixture
def people(db: None) -> dict[str, User]:
    seed_people()
    people = User.objects.select_related("hospital").in_bulk()
    for number in ("001", "002"):
        fill(people, number)
    return people


def test_superuser_sees_all_and_a_patient_of_nobody_only_the_own_account(people: dict[str, User]) -> None:
    stranger = User.objects.create_user("stranger", role="patient")
    for model in GUARDED:
        assert set(model.objects.visible_to(people["root"])) == set(model.objects.all()), model
        assert set(model.objects.visible_to(stranger)) == ({stranger} if model is User else set()), model


def test_impossible_id_is_not_found_in_any_model(people: dict[str, User]) -> None:
    for model in GUARDED:
        visible = model.objects.visible_to(people["root"])
        assert visible.exists() or model._meta.label == "emergency.HospitalPolicy"
        for value in IMPOSSIBLE:
            with pytest.raises(errors.EmergencyNotFound):
                visible.find(value, errors.EmergencyNotFound())


def test_row_of_another_hospital_is_not_found_by_its_id(people: dict[str, User]) -> None:
    found = {model._meta.label: _found_and_not(model, people["admin_001"]) for model in GUARDED}
    both_sides = {label for label, (own, foreign) in found.items() if own and foreign}
    assert both_sides >= {"chat.Message", "emergency.Emergency", "calls.Call", "accounts.User"}, found


def _found_and_not(model: Any, user: User) -> tuple[int, int]:
    """How many rows `find` returns, and how many it refuses; each as `visible_to` has it."""
    own, name, counts = model.objects.visible_to(user), model.objects.none().public_id, [0, 0]
    ids = set(own.values_list(name, flat=True))
    for row in model.objects.all():
        value = getattr(row, name)
        counts[value not in ids] += 1
        if value in ids:
            assert own.find(value, errors.EmergencyNotFound()) == row
            continue
        with pytest.raises(errors.EmergencyNotFound):
            own.find(value, errors.EmergencyNotFound())
    return counts[0], counts[1]


# The admin site's own addresses


@pytest.fixture
def root(people: dict[str, User]) -> Client:
    return admin_client_of(people["root"])


def test_page_with_an_impossible_id_is_not_found(root: Client) -> None:
    for model in LISTS:
        for value in ("a\x00b", "x" * 300, str(10**30)):
            for view in ("change", "history"):
                assert root.get(page(model, view, value)).status_code == 302, (model, view, value)
            assert root.get(page(model, "delete", value)).status_code in (302, 403), (model, value)


def test_own_pages_with_an_impossible_id_are_not_found(root: Client) -> None:
    nul = quote("a\x00b")
    for path in (
        f"chat/chatroom/{nul}/attachments/{nul}/",
        f"emergency/emergency/{nul}/export/json/",
        f"emergency/emergency/board/?hospital={nul}",
        f"?hospital={nul}",
    ):
        assert root.get(f"/admin/{path}").status_code == 404, path
    for path in (
        f"chat/chatroom/{nul}/hold/",
        f"chat/chatroom/{nul}/release/",
        f"emergency/emergency/{nul}/action/cancel/",
    ):
        assert root.post(f"/admin/{path}", {"reason": "court"}).status_code == 404, path


def test_filter_with_nul_is_no_server_error(root: Client) -> None:
    for model in LISTS:
        shown = root.get(page(model, "changelist")).context["cl"]
        names = [spec.lookup_kwarg for spec in shown.filter_specs if hasattr(spec, "lookup_kwarg")]
        for name in [*names, "q", "o", "p"]:
            answer = root.get(page(model, "changelist"), {name: "a\x00b"})
            assert answer.status_code in (200, 302), (model, name)
