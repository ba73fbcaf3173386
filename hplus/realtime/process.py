"""What a server process runs beside its connections: the switchboard and the duties."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from django.conf import settings

from hplus.realtime.duties import Duty, Worker
from hplus.realtime.switchboard import Switchboard

Application = Any


class ServerApplication:
    """Starts with the first thing that arrives (the lifespan on uvicorn, a request on daphne)."""

    def __init__(self, application: Application, duties: Sequence[Duty]) -> None:
        self.application, self.duties = application, duties
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
        await Switchboard.of_this_process()
        if settings.HPLUS_WORKER_INSIDE:
            self._worker = Worker(self.duties)
            self._worker.start()

    async def stop(self) -> None:
        """Answer what was accepted, say goodbye, end the duties. Safe to repeat."""
        self._loop = None
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop(timeout_seconds=0)
        await (await Switchboard.of_this_process()).stop()
        if worker is not None:
            await asyncio.to_thread(worker.stop, 1)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._loop is not None:
            await self.stop()
        await send({"type": "lifespan.shutdown.complete"})


async def nowhere(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """There is no socket at this path."""
    await receive()
    await send({"type": "websocket.close", "code": 1000})
