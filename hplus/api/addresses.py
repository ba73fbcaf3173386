"""Addresses of the API: a missing last slash is served, not redirected, as a redirect makes a POST a GET."""

from __future__ import annotations

from typing import Any

from django.urls import is_valid_path

SERVED = ("/api/", "/health")


class LastSlash:
    """Wraps Django: adds the last slash where only that makes the address one of the API's."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        path = scope["path"]
        if path.startswith(SERVED) and not path.endswith("/") and _needs_slash(path):
            scope = {**scope, "path": f"{path}/", "raw_path": (scope.get("raw_path") or path.encode()) + b"/"}
        await self.application(scope, receive, send)


def _needs_slash(path: str) -> bool:
    return not is_valid_path(path) and bool(is_valid_path(f"{path}/"))
