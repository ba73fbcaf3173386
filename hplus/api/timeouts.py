"""Time limit of the API, like that of the socket: 503 while the database does not answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from hplus.api.answers import error_body
from hplus.operations.health import ask_database
from hplus.realtime.execution.db_threads import database_unavailable, in_health_thread

PROBE_SECONDS = 0.5  # for the database to answer a probe; then the response is only slow


class TimeLimit:
    """Wraps Django. What its threads still send after the refusal is dropped."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if not scope["path"].startswith("/api/"):
            await self.application(scope, receive, send)
            return
        response = _Response(send)
        work = asyncio.ensure_future(self.application(scope, receive, response.send))
        try:
            while not (await asyncio.wait({work}, timeout=settings.ACTION_TIMEOUT_SECONDS))[0]:
                if not await _database_answers() and not response.has_begun:
                    work.add_done_callback(_forget)
                    await response.refuse()
                    return
        except asyncio.CancelledError:
            work.cancel()
            raise
        await work


class _Response:
    """Knows whether the response has begun; after a refusal it sends nothing more."""

    def __init__(self, send: Callable[[Any], Awaitable[None]]) -> None:
        self._send = send
        self.has_begun = self._is_refused = False

    async def send(self, event: Any) -> None:
        if not self._is_refused:
            self.has_begun = True
            await self._send(event)

    async def refuse(self) -> None:
        self._is_refused = True
        body = json.dumps(error_body(database_unavailable("no answer in time"))).encode()
        headers = [(b"content-type", b"application/json"), (b"retry-after", b"1")]
        await self._send({"type": "http.response.start", "status": 503, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


async def _database_answers() -> bool:
    try:
        await asyncio.wait_for(in_health_thread(ask_database), PROBE_SECONDS)
    except Exception:  # whatever it is, `in_health_thread` logs that there was no answer
        return False
    return True


def _forget(work: asyncio.Future[None]) -> None:
    """Retrieve the exception, which Django has logged, so that asyncio does not log it again."""
    if not work.cancelled():
        work.exception()
