"""The HTTP side in a test: somebody signed in with the demo's password."""

from __future__ import annotations

from typing import Any, Self

import httpx

from hplus.management.commands.seed_demo import PASSWORD
from tests.servers import Endpoint
from tests.waiting import PATIENCE_SECONDS


class Api(httpx.AsyncClient):
    """`async with Api(server, "doctor_123") as doctor: await doctor.get("chat/rooms/")`"""

    def __init__(self, server: Endpoint, user_id: str = "", **options: Any) -> None:
        super().__init__(base_url=f"{server.url}/api/", timeout=PATIENCE_SECONDS, **options)
        self.user_id = user_id
        self.tokens: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self.user_id:
            await self.sign_in()
        return self

    async def sign_in(self, **more: Any) -> dict[str, Any]:
        """A new session; from now on its access token is shown."""
        answer = await self.post("auth/token/", json={"userId": self.user_id, "password": PASSWORD, **more})
        assert answer.status_code == 200, answer.text
        self.tokens = answer.json()
        self.headers["Authorization"] = f"Bearer {self.tokens['access']}"
        return self.tokens


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The refusal's body, which is the socket's error without what only a frame needs."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    body: dict[str, Any] = answer.json()
    assert set(body) - {"retryAfter"} == {"code", "message", "details"}
    return body
