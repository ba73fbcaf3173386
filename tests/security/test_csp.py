"""No page runs a foreign or an inline script."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db


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
