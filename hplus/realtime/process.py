"""What a server process runs beside its connections: the hub and the periodic jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from django.conf import settings

from hplus.api import throttling
from hplus.postgresql import limits
from hplus.realtime.connection import rate_limits
from hplus.realtime.connection.admission import admission
from hplus.realtime.execution import prepared
from hplus.realtime.hub.hub import Hub
from hplus.realtime.scheduler import PeriodicJob, Worker

Application = Any


class ServerApplication:
    """Wraps the ASGI application. Starts at the first scope: the lifespan on uvicorn, a request on daphne."""

    def __init__(self, application: Application, jobs: Sequence[PeriodicJob]) -> None:
        self.application, self.jobs = application, jobs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: Worker | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if self._loop is not asyncio.get_running_loop():
            self._loop = asyncio.get_running_loop()
            await self.start()
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self.application(scope, receive, send)

    async def start(self) -> None:
        Hub.of_this_process()
        admission.reset()
        rate_limits.forget()
        throttling.forget()
        limits.serve_requests()
        if settings.HPLUS_WORKER_INSIDE:
            self._worker = Worker(self.jobs)
            self._worker.start()

    async def stop(self) -> None:
        """Answer what was accepted, close the connections, end the jobs. Safe to repeat."""
        self._loop = None
        limits.serve_requests(False)
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop(timeout_seconds=0)
        await Hub.of_this_process().stop()
        if worker is not None:
            await asyncio.to_thread(worker.stop, 1)
        prepared.statements.close()

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._loop is not None:
            await self.stop()
        await send({"type": "lifespan.shutdown.complete"})


async def close_unknown_path(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Close a WebSocket to a path without a consumer."""
    await receive()
    await send({"type": "websocket.close", "code": 1000})
