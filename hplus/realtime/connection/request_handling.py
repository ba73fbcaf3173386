"""One request on its way to its reply."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from hplus import errors
from hplus.operations import metrics
from hplus.protocol import wire
from hplus.realtime.actions import Result
from hplus.realtime.connection.handlers import Consumer, Handler
from hplus.realtime.execution.db_threads import Deadline


class Replying(Protocol):
    """What a request needs of the connection it came by."""

    deadline: Deadline

    async def run(self, consumer: Consumer, handler: Handler, request: wire.Request) -> Result | None: ...
    async def send_result(self, result: Result) -> None: ...
    async def after(self, seconds: float, work: Callable[[], object], where: Any) -> None: ...
    def reply(self, request: wire.Request, result: Result | None) -> None: ...
    def refuse_request(
        self, refused: Exception, frame: dict[str, Any], handler: Handler | None, *, is_read: bool
    ) -> None: ...
    def release(self) -> None: ...


class RequestHandling:
    """One request on its way to its reply: a callback where nothing has to be waited for, else a task."""

    __slots__ = ("_came_at", "_client", "_consumer", "_handler", "_on_done", "_request")

    def __init__(
        self,
        client: Replying,
        consumer: Consumer,
        handler: Handler,
        request: wire.Request,
        came_at: float,
        on_done: Callable[[], None],
    ) -> None:
        self._client, self._consumer, self._handler = client, consumer, handler
        self._request, self._came_at, self._on_done = request, came_at, on_done

    def start(self) -> None:
        client, asked = self._client, (self._consumer, self._handler, self._request)
        asyncio.get_running_loop().create_task(self._run(partial(client.run, *asked)))

    def answer_in_loop(self) -> bool:
        """Returns whether there was nothing to wait for."""
        try:
            work = getattr(self._consumer, self._handler.method)(self._request)
            if work is not None:
                asyncio.get_running_loop().create_task(self._run(work))
                return False
            self._client.reply(self._request, None)
        except Exception as refused:
            self._refuse(refused)
        self._client.release()
        return True

    async def _run(self, work: Callable[[], Awaitable[Result | None]]) -> None:
        try:
            result = await self._client.deadline.run(self._came_at, work)
            await self._finish(result)
        except Exception as refused:
            self._refuse(refused)
        self._end()

    def on_outcome(self, outcome: Any) -> None:
        """A batch has the outcome of the request: its reply is written in this very call, if it can be."""
        try:
            if isinstance(outcome, Exception):
                client_is_stuck = isinstance(outcome, errors.InternalError)
                self._client.deadline.is_stuck = client_is_stuck
                raise outcome
            result = getattr(self._consumer, self._handler.method)(self._request, outcome)
            if result is not None and (result.events or result.after_reply is not None):
                asyncio.get_running_loop().create_task(self._finish_later(result))
                return
            self._client.reply(self._request, result)
        except Exception as refused:
            self._refuse(refused)
        self._end()

    async def _finish_later(self, result: Result | None) -> None:
        try:
            await self._finish(result)
        except Exception as refused:
            self._refuse(refused)
        self._end()

    async def _finish(self, result: Result | None) -> None:
        if result is not None:
            await self._client.send_result(result)
        self._client.reply(self._request, result)
        if result is not None and result.after_reply is not None:
            await self._client.after(0, result.after_reply, where=operator.call)

    def _refuse(self, refused: Exception) -> None:
        request = self._request
        asked = {
            "type": request.type,
            "requestId": request.request_id,
            "clientMessageId": request.client_message_id,
        }
        self._client.refuse_request(refused, asked, self._handler, is_read=True)

    def _end(self) -> None:
        seconds = asyncio.get_running_loop().time() - self._came_at
        metrics.action_seconds.observe(seconds)
        self._client.release()
        self._on_done()
