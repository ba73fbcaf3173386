"""What is shown in the place of a page: a sentence for people, and nothing of the inside."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import SuspiciousOperation
from django.http import HttpResponse
from django.test import RequestFactory
from django.views import defaults

from hplus.management.commands.seed_demo import seed_people
from tests.admin_site import admin_client_of


@pytest.fixture(autouse=True)
def users(db: None) -> None:
    seed_people()


def says(answer: HttpResponse, status: int, sentence: str) -> None:
    shown = answer.content.decode()
    assert answer.status_code == status
    assert f"<h1>{sentence}</h1>" in shown
    assert '<a href="/admin/">' in shown
    assert "Traceback" not in shown


def test_error_page_says_what_happened() -> None:
    says(admin_client_of("admin_001").get("/admin/nothing/here/"), 404, "There is nothing at this address")
    says(
        admin_client_of("admin_001").get("/admin/accounts/hospital/add/"), 403, "Your account may not do this"
    )
    forged = admin_client_of("admin_001", enforce_csrf_checks=True).post(
        "/admin/accounts/session/", {"action": "revoke"}
    )
    says(forged, 403, "This was not sent")
    spelled = {"password__startswith": "md5"}
    says(
        admin_client_of("admin_001").get("/admin/accounts/user/", spelled),
        400,
        "This could not be understood",
    )


def test_server_error_and_bad_request_pages_say_what_happened(settings: Any) -> None:
    """Also where the static files were never collected."""
    collected = {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": collected}
    request = RequestFactory().get("/admin/")
    says(defaults.server_error(request), 500, "Something broke here")
    says(defaults.bad_request(request, SuspiciousOperation("secret")), 400, "This could not be understood")


def test_root_url_redirects_to_the_admin_site() -> None:
    answer = admin_client_of("admin_001").get("/")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")


def test_console_is_not_found_outside_demo_mode(client: Any, settings: Any) -> None:
    assert client.get("/console/").status_code == 200
    settings.HPLUS_DEMO = False
    assert client.get("/console/").status_code == 404
