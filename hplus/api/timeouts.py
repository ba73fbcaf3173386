"""The API answers in time, as the socket does: a database that hangs keeps nobody waiting."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from hplus.api.answers import error_body
from hplus.operations.health import ask_database
from hplus.realtime.execution.db_threads import database_unavailable, in_db_thread

DOUBT_SECONDS = 0.5  # for the database to say that it is well, and the answer only long


class TimeLimit:
    """Around Django. What its threads still do after the refusal is heard by nobody."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if not scope["path"].startswith("/api/"):
            await self.application(scope, receive, send)
            return
        answer = Answering(send)
        work = asyncio.ensure_future(self.application(scope, receive, answer.say))
        try:
            while not (await asyncio.wait({work}, timeout=settings.ACTION_TIMEOUT_SECONDS))[0]:
                if not await _database_is_well() and not answer.has_begun:
                    work.add_done_callback(_forget)
                    await answer.refuse()
                    return
        except asyncio.CancelledError:
            work.cancel()
            raise
        await work


class Answering:
    """Whether the answer has begun; after a refusal nothing more is said."""

    def __init__(self, send: Callable[[Any], Awaitable[None]]) -> None:
        self._send = send
        self.has_begun = self._is_refused = False

    async def say(self, event: Any) -> None:
        if not self._is_refused:
            self.has_begun = True
            await self._send(event)

    async def refuse(self) -> None:
        self._is_refused = True
        body = json.dumps(error_body(database_unavailable("no answer in time"))).encode()
        headers = [(b"content-type", b"application/json"), (b"retry-after", b"1")]
        await self._send({"type": "http.response.start", "status": 503, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


async def _database_is_well() -> bool:
    try:
        await asyncio.wait_for(in_db_thread(ask_database), DOUBT_SECONDS)
    except Exception:  # whatever it is, `away` logs that there was no answer
        return False
    return True


def _forget(work: asyncio.Future[None]) -> None:
    """Django has logged what went wrong; without this asyncio would say it again."""
    if not work.cancelled():
        work.exception()
