"""Health checks: liveness and readiness."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from channels.layers import get_channel_layer
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.urls import path

from hplus.operations.disk import LOW_BYTES, free_bytes
from hplus.operations.late_jobs import names_of_late_jobs
from hplus.operations.readiness import schema_fault_at_first, static_fault
from hplus.realtime.execution.db_threads import in_health_thread
from hplus.realtime.sealing import alarm

logger = logging.getLogger(__name__)
TIMEOUT_SECONDS = 3


def ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _look(late: list[str], faults: list[str]) -> None:
    """Add the names of late jobs, and the sentences about what keeps this version from serving."""
    faults.extend(filter(None, (schema_fault_at_first(), static_fault())))
    if not faults:
        late.extend(names_of_late_jobs())


async def _ask_layer() -> None:
    layer: Any = get_channel_layer()
    await layer.group_send("health", {"type": "health"})


async def _answers(name: str, probe: Awaitable[None]) -> str | None:
    """Return the name where the probe gets no answer in time, else None."""
    try:
        await asyncio.wait_for(probe, TIMEOUT_SECONDS)
    except Exception as failure:
        logger.warning("%s does not answer: %s", name, type(failure).__name__)
        return name
    return None


async def ready(_request: HttpRequest) -> JsonResponse:
    """Respond 200 where database and channel layer answer, else 503 with the names of those that do not.

    A database of another version and files that were not collected are among them, with what to do.
    `warnings` names what needs somebody's attention: `disk` where little space is left for attachments,
    `redis` where messages of Redis have been dropped lately, which no server of this installation sent, and
    `job ...` where a periodic job is late (a worker's fault, so this server stays).
    """
    late, faults = list[str](), list[str]()
    names = await asyncio.gather(
        _answers("database", in_health_thread(_look, late, faults)), _answers("channel layer", _ask_layer())
    )
    silent = [*(name for name in names if name), *faults]
    status = "unavailable" if silent else "ok"
    concerns = {"disk": free_bytes() < LOW_BYTES, "redis": alarm.is_recent}
    warnings = [name for name, is_so in concerns.items() if is_so]
    warnings += [f"job {name}" for name in late]
    body = {"status": status, "unavailable": silent, "warnings": warnings}
    return JsonResponse(body, status=503 if silent else 200)


async def live(_request: HttpRequest) -> JsonResponse:
    """Respond 200 while the process runs."""
    return JsonResponse({"status": "ok"})


urlpatterns = [path("", ready), path("live/", live)]
