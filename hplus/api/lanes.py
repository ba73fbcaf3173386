"""Lanes: how many HTTP requests of one kind are at work at once, and that each gives its connection back.

Every place in a lane is a place among the connections of the database, so a flood in one lane takes nothing
from the others. A request takes its place when its body has arrived and leaves it when its response is ready:
nobody holds one while a client sends or reads slowly.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from weakref import WeakKeyDictionary

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils.decorators import sync_and_async_middleware
from prometheus_client import Counter as Total

from hplus import errors
from hplus.api import claims
from hplus.api.answers import error_body
from hplus.api.claims import Shares

refused = Total("hplus_http_refused_total", "HTTP requests refused because their lane was full", ["lane"])

# By method and path, the first that fits. None: the request reaches no database through a thread.
_LANES: tuple[tuple[str | None, re.Pattern[str]], ...] = (
    ("signIn", re.compile(r"POST /(api/auth/(token|register)/|admin/login/|admin/password_change/)")),
    ("signIn", re.compile(r"POST (/api/me/password/|/admin/accounts/user/(add/|[^/]+/password/))")),
    ("urgent", re.compile(r"POST /(api/emergencies|admin/emergency)/")),
    (None, re.compile(r"\S+ /(health/|metrics)")),
    ("page", re.compile(r"\S+ /(protocol|console|api/schema|api/docs)/")),
    ("admin", re.compile(r"\S+ /admin/")),
    ("api", re.compile(r"")),
)
# How many wait at most; a call for help waits behind no others than calls for help.
_WAITING = {"urgent": 10_000, "signIn": 30, "api": 200, "admin": 50, "page": 50}


def lane_of(request: HttpRequest) -> str | None:
    """Return the name of the request's lane; None where it needs none."""
    line = f"{request.method} {request.path_info}"
    return next(name for name, pattern in _LANES if pattern.match(line))


def give_back_connection() -> None:
    """Let others have this thread's database connection, unless it is in the middle of a transaction."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


class Lane:
    """So many places, and a queue before them: half of it for one address, an eighth for one claim there."""

    def __init__(self, name: str) -> None:
        self.name, self.places, self.most_waiting = name, settings.HTTP_LANES[name], _WAITING[name]
        self._semaphore = asyncio.Semaphore(self.places)
        self._waiting = Shares(self.most_waiting // 2, self.most_waiting // 8)
        self._seconds = 0.1  # that a request was at work lately

    @contextlib.asynccontextmanager
    async def place(self, address: str, claimant: str) -> AsyncIterator[None]:
        """Hold a place. Raises RateLimited where too many wait already."""
        await self._wait(address, claimant)
        begun_at = time.monotonic()
        try:
            yield
        finally:
            self._semaphore.release()
            self._seconds += (time.monotonic() - begun_at - self._seconds) / 8

    async def _wait(self, address: str, claimant: str) -> None:
        has_room = len(self._waiting) < self.most_waiting and self._waiting.has_room(address, claimant)
        if self._semaphore.locked() and not has_room:
            refused.labels(self.name).inc()
            seconds = max(0.5, (len(self._waiting) + 1) * self._seconds / self.places)
            raise errors.RateLimited("Too many of these at once.", retry_after=round(seconds, 1))
        with self._waiting.take(address, claimant):
            await self._semaphore.acquire()


_lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Lane]] = WeakKeyDictionary()


def _lane(name: str) -> Lane:
    lanes = _lanes.setdefault(asyncio.get_running_loop(), {})
    if name not in lanes:
        lanes[name] = Lane(name)
    return lanes[name]


@sync_and_async_middleware
def Lanes(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Let each request wait for a place in its lane, and give its database connection back before it is sent.

    Without an event loop (tests, WSGI) nobody waits.
    """
    if iscoroutinefunction(get_response):

        async def in_lane(request: HttpRequest) -> HttpResponseBase:
            return await _in_lane(request, get_response)

        return in_lane

    def at_once(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = get_response(request)
        give_back_connection()
        return response

    return at_once


async def _in_lane(
    request: HttpRequest, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]
) -> HttpResponseBase:
    name = lane_of(request)
    if name is None:
        return await get_response(request)
    address, claimant = claims.address_of(request), claims.claimant_of(request)
    try:
        if wait := claims.wait_seconds(address, claimant):
            raise errors.RateLimited("Too many failures.", retry_after=round(wait, 1))
        async with _lane(name).place(address, claimant):
            try:
                response = await get_response(request)
            finally:
                await sync_to_async(give_back_connection)()
    except errors.RateLimited as full:
        return _refusal(request, full)
    if response.status_code == errors.AuthenticationFailed.http_status:
        claims.note_failure(address, claimant)
    return response


def _refusal(request: HttpRequest, full: errors.RateLimited) -> HttpResponse:
    after = {"Retry-After": str(int(full.retry_after or 0) + 1)}
    if request.path_info.startswith("/api/"):
        return JsonResponse(error_body(full), status=full.http_status, headers=after)
    text = "Too many are here at once. Please try again in a moment."
    return HttpResponse(text, status=full.http_status, headers=after, content_type="text/plain")
