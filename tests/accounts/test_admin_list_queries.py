"""No list of the admin site asks the database once for each of its rows."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from hplus.accounts.models import Hospital, User
from hplus.management.commands.seed_demo import seed_people
from tests.admin_site import admin_client_of, page
from tests.full_dataset import LISTS, fill


@pytest.mark.django_db
@pytest.mark.parametrize("model", LISTS, ids=lambda model: model._meta.label_lower)
def test_twice_as_many_rows_take_no_more_queries(model: Any) -> None:
    seed_people()
    users = User.objects.select_related("hospital").in_bulk()
    admin_client, address = admin_client_of(users["root"]), page(model, "changelist")

    def looked_at() -> tuple[int, int]:
        with CaptureQueriesContext(connection) as captured:
            shown = admin_client.get(address)
        return len(shown.context["cl"].result_list), len(captured)

    fill(users, "001")
    looked_at()  # content types are cached
    few, queries = looked_at()
    fill(users, "002")
    Hospital.objects.create(pk="hospital_003", name="Lakeside")
    User.objects.create_user("patient_9", role="patient")
    looked_at()  # what is shown for the first time may be recorded
    more, queries_for_more = looked_at()
    assert more > few > 0
    assert queries_for_more <= queries <= 12
