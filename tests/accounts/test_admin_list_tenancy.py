"""Whatever list the admin site has: the other hospital is in none of them, by none of the ways in."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.db.models import Model
from django.test import Client, RequestFactory

from hplus.accounts.models import User
from hplus.admin_site.tenancy_admin import TenancyAdmin
from hplus.audit.models import Record, Verb
from hplus.management.commands.seed_demo import seed_people
from tests.admin_site import admin_client_of, page
from tests.full_dataset import LISTS, fill

EVERY_LIST = pytest.mark.parametrize("model", LISTS, ids=lambda model: model._meta.label_lower)
OF_THE_OTHER = ["_002", "test_user", "Hillcrest", "Ira Stone", "Jo Field", "Terry Test"]


@pytest.fixture(autouse=True)
def users(db: None) -> dict[str, User]:
    seed_people()
    users = User.objects.select_related("hospital").in_bulk()
    for number in ("001", "002"):
        fill(users, number)
    return users


def listed(client: Client, model: type[Model], **query: str) -> set[Any]:
    return {row.pk for row in client.get(page(model, "changelist"), query).context["cl"].result_list}


def foreign(model: Any, users: dict[str, User]) -> list[Any]:
    """Rows that are there and not for admin_001: without one a test of tenancy would prove nothing."""
    here = model.objects.visible_to(users["admin_001"]).values("pk")
    assert here.exists()
    there = list(model.objects.exclude(pk__in=list(here.values_list("pk", flat=True))))
    assert there
    return there


@EVERY_LIST
def test_list_shows_visible_to_and_superuser_sees_all(
    users: dict[str, User], admin_client: Client, model: Any
) -> None:
    assert isinstance(admin.site._registry[model], TenancyAdmin)
    own = set(model.objects.visible_to(users["admin_001"]).values_list("pk", flat=True))
    assert listed(admin_client, model) == own
    others = {row.pk for row in foreign(model, users)}
    assert listed(admin_client_of(users["root"]), model) >= others
    shown = admin_client.get(page(model, "changelist")).content.decode()
    assert [term for term in OF_THE_OTHER if term in shown] == []


@EVERY_LIST
def test_guessed_url_is_not_found(users: dict[str, User], admin_client: Client, model: Any) -> None:
    for row in foreign(model, users):
        for view in ("change", "history"):
            answer = admin_client.get(page(model, view, row.pk))
            assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")
        assert admin_client.post(page(model, "change", row.pk), {"name": "x"}).status_code in (302, 403)
        assert admin_client.get(page(model, "delete", row.pk)).status_code == 403


@EVERY_LIST
def test_search_does_not_find_rows_of_another_hospital(
    users: dict[str, User], admin_client: Client, model: Any
) -> None:
    others = {row.pk for row in foreign(model, users)}
    for term in ("002", "test_user", "Stone", "Hillcrest", "Terry"):
        assert not listed(admin_client, model, q=term) & others


@EVERY_LIST
def test_actions_and_exports_skip_rows_of_another_hospital(
    users: dict[str, User], admin_client: Client, model: Any
) -> None:
    request = RequestFactory().get("/")
    request.user = users["root"]
    rows = foreign(model, users)
    before = list(model.objects.filter(pk__in=[row.pk for row in rows]).order_by("pk").values())
    for action in admin.site._registry[model].get_actions(request):
        for more in ({}, {"select_across": "1"}):
            asked = {"action": action, "_selected_action": [str(row.pk) for row in rows], **more}
            answer = admin_client.post(page(model, "changelist"), asked)
            assert [term for term in OF_THE_OTHER if term in answer.getvalue().decode()] == []
    assert list(model.objects.filter(pk__in=[row.pk for row in rows]).order_by("pk").values()) == before
    touched = Record.objects.filter(verb=Verb.CHANGE, object_id__in=[str(row.pk) for row in rows])
    assert not touched.exists()
