"""Whoever guesses passwords is held up, and nobody else is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from hplus.accounts.models import User
from hplus.management.commands.seed_demo import PASSWORD, seed_people

HERE, ELSEWHERE = "198.51.100.1", "198.51.100.2"


@pytest.fixture(autouse=True)
def users(db: None, settings: Any) -> dict[str, User]:
    settings.AXES_FAILURE_LIMIT = 3
    seed_people()
    return User.objects.in_bulk()


def ask(password: str, user_id: str = "doctor_123", address: str = HERE) -> tuple[int, dict]:
    response = Client(REMOTE_ADDR=address).post(
        "/api/auth/token/", {"userId": user_id, "password": password}, "application/json"
    )
    return response.status_code, {"Retry-After": response.headers.get("Retry-After"), **response.json()}


def test_guesser_is_throttled_even_with_the_right_password() -> None:
    assert [ask("wrong")[0] for _ in range(2)] == [401, 401]
    assert ask("wrong")[0] == 429
    status, said = ask(PASSWORD)
    assert (status, said["code"]) == (429, "RATE_LIMITED")
    assert 890 < said["retryAfter"] <= 900
    assert int(said["Retry-After"]) >= said["retryAfter"]


def test_throttle_spares_other_addresses_and_other_accounts() -> None:
    for _ in range(4):
        ask("wrong")
    assert ask(PASSWORD, address=ELSEWHERE)[0] == 200
    assert ask(PASSWORD, user_id="nurse_001")[0] == 200


def test_successful_login_resets_the_count() -> None:
    for _ in range(2):
        assert [ask("wrong")[0], ask("wrong")[0], ask(PASSWORD)[0]] == [401, 401, 200]


def test_throttle_ends_after_its_time(settings: Any) -> None:
    for _ in range(3):
        ask("wrong")
    settings.AXES_COOLOFF_TIME = timedelta(0)
    assert ask(PASSWORD)[0] == 200


def test_admin_site_shows_the_wait() -> None:
    admin_client = Client(REMOTE_ADDR=HERE)
    for _ in range(3):
        said = admin_client.post(
            "/admin/login/", {"username": "admin_001", "password": "wrong"}
        ).content.decode()
    assert "Too many attempts. Please try again in 15 minutes." in said
    assert (
        admin_client.post("/admin/login/", {"username": "admin_001", "password": PASSWORD}).status_code == 200
    )
    other = Client(REMOTE_ADDR=ELSEWHERE)
    assert other.post("/admin/login/", {"username": "admin_001", "password": PASSWORD}).status_code == 302


@pytest.mark.parametrize("path", ["/admin/login/", "/protocol/", "/api/docs/", "/health/live/"])
def test_csp_forbids_foreign_and_inline_scripts(path: str) -> None:
    response = Client().get(path)
    policy = dict(part.split(" ", 1) for part in response["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert "unsafe-inline" not in policy["script-src"]
    assert ("'unsafe-eval'" in policy["script-src"]) == path.startswith("/admin/")
    assert policy["frame-ancestors"] == "'none'"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Referrer-Policy"] == "same-origin"


def test_csp_allows_the_map_tile_host(settings: Any) -> None:
    settings.MAP_TILE_URL = "https://{s}.tiles.example/{z}/{x}/{y}.png"
    policy = Client().get("/admin/login/")["Content-Security-Policy"]
    assert "img-src 'self' data: https://*.tiles.example;" in policy
    assert "tiles.example" not in Client().get("/protocol/")["Content-Security-Policy"]
