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
from tests.admin_site import desk_of, page
from tests.everywhere import LISTS, fill

EVERY_LIST = pytest.mark.parametrize("model", LISTS, ids=lambda model: model._meta.label_lower)
OF_THE_OTHER = ["_002", "test_user", "Hillcrest", "Ira Stone", "Jo Field", "Terry Test"]


@pytest.fixture(autouse=True)
def people(db: None) -> dict[str, User]:
    seed_people()
    people = User.objects.select_related("hospital").in_bulk()
    for number in ("001", "002"):
        fill(people, number)
    return people


def listed(client: Client, model: type[Model], **query: str) -> set[Any]:
    return {row.pk for row in client.get(page(model, "changelist"), query).context["cl"].result_list}


def foreign(model: Any, people: dict[str, User]) -> list[Any]:
    """Rows that are there and not for admin_001: without one a test of tenancy would prove nothing."""
    here = model.objects.visible_to(people["admin_001"]).values("pk")
    assert here.exists()
    there = list(model.objects.exclude(pk__in=list(here.values_list("pk", flat=True))))
    assert there
    return there


@EVERY_LIST
def test_it_shows_what_visible_to_says_and_a_superuser_everything(
    people: dict[str, User], desk: Client, model: Any
) -> None:
    assert isinstance(admin.site._registry[model], TenancyAdmin)
    own = set(model.objects.visible_to(people["admin_001"]).values_list("pk", flat=True))
    assert listed(desk, model) == own
    others = {row.pk for row in foreign(model, people)}
    assert listed(desk_of(people["root"]), model) >= others
    shown = desk.get(page(model, "changelist")).content.decode()
    assert [word for word in OF_THE_OTHER if word in shown] == []


@EVERY_LIST
def test_a_guessed_address_leads_nowhere(people: dict[str, User], desk: Client, model: Any) -> None:
    for row in foreign(model, people):
        for view in ("change", "history"):
            answer = desk.get(page(model, view, row.pk))
            assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")
        assert desk.post(page(model, "change", row.pk), {"name": "x"}).status_code in (302, 403)
        assert desk.get(page(model, "delete", row.pk)).status_code == 403


@EVERY_LIST
def test_search_does_not_find_it(people: dict[str, User], desk: Client, model: Any) -> None:
    others = {row.pk for row in foreign(model, people)}
    for word in ("002", "test_user", "Stone", "Hillcrest", "Terry"):
        assert not listed(desk, model, q=word) & others


@EVERY_LIST
def test_no_action_reaches_it_and_no_export_takes_it_along(
    people: dict[str, User], desk: Client, model: Any
) -> None:
    request = RequestFactory().get("/")
    request.user = people["root"]
    rows = foreign(model, people)
    before = list(model.objects.filter(pk__in=[row.pk for row in rows]).order_by("pk").values())
    for action in admin.site._registry[model].get_actions(request):
        for more in ({}, {"select_across": "1"}):
            asked = {"action": action, "_selected_action": [str(row.pk) for row in rows], **more}
            answer = desk.post(page(model, "changelist"), asked)
            assert [word for word in OF_THE_OTHER if word in answer.content.decode()] == []
    assert list(model.objects.filter(pk__in=[row.pk for row in rows]).order_by("pk").values()) == before
    touched = Record.objects.filter(verb=Verb.CHANGE, object_id__in=[str(row.pk) for row in rows])
    assert not touched.exists()
