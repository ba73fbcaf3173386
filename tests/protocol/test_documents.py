"""Documents for anybody cost next to nothing: made once, answered by their ETag, behind the limits."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from hplus.api import openapi, throttling
from hplus.protocol import document

pytestmark = pytest.mark.django_db
PATHS = ["/api/schema/", "/api/schema/?format=json", "/protocol/", "/protocol/asyncapi.yaml"]


@pytest.mark.parametrize("path", PATHS)
def test_document_has_an_etag_and_is_sent_once(client: Client, path: str) -> None:
    first = client.get(path)
    assert first.status_code == 200
    again = client.get(path, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get(path, headers={"If-None-Match": '"another"'})
    assert (other.status_code, other.content) == (200, first.content)


def test_schema_is_generated_once_for_each_format(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    generate = SchemaGenerator.get_schema
    monkeypatch.setattr(
        SchemaGenerator, "get_schema", lambda self, **given: made.append(given) or generate(self, **given)
    )
    openapi._openapi.cache_clear()
    for _ in range(3):
        assert client.get("/api/schema/").content.startswith(b"openapi:")
        assert client.get("/api/schema/", headers={"Accept": "application/json"}).json()["openapi"]
    assert len(made) == 2


def test_page_is_made_once_for_each_host(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = client.get("/protocol/", headers={"Host": "one.testserver"})
    made: list[int] = []
    as_html = document.as_html
    monkeypatch.setattr(document, "as_html", lambda: made.append(1) or as_html())
    assert client.get("/protocol/", headers={"Host": "one.testserver"}).content == shown.content
    assert not made
    assert b"two.testserver" in client.get("/protocol/", headers={"Host": "two.testserver"}).content
    assert len(made) == 1


def test_schema_is_behind_the_limits(client: Client, settings: Any) -> None:
    settings.HPLUS_MESSAGES_PER_MINUTE = 600
    throttling.forget()
    codes = {client.get("/api/schema/").status_code for _ in range(throttling.SIGN_INS_BURST + 50)}
    throttling.forget()
    assert codes == {200, 429}
