"""Connections from which a whole HTTP request is awaited: a silent one costs a descriptor, too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol
from weakref import WeakKeyDictionary

from django.conf import settings

from hplus.operations import metrics

GRACE_SECONDS = 3.0  # in which nobody is cut for others, however many they are
LOOK_SECONDS = 0.1  # until requests that have just arrived have been read


class Awaited(Protocol):
    """A connection whose request has not arrived yet."""

    def cut(self, reason: str) -> None:
        """End the connection, which is then awaited no more."""
        ...


class AwaitedRequests:
    """Limits how many there are in this process and from one address.

    Where there are too many the oldest is cut, which is silent, and not the newest, which may call for help.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._since: dict[Awaited, tuple[float, str]] = {}  # and from where; the oldest first
        self._by_address: dict[str, dict[Awaited, None]] = {}
        self._look: asyncio.TimerHandle | None = None

    def add(self, connection: Awaited, address: str) -> None:
        """Count a connection from this address; from a blank one there may be any number."""
        if connection in self._since:
            return
        self._since[connection] = self._loop.time(), address
        if address:
            self._by_address.setdefault(address, {})[connection] = None
        metrics.awaited_requests.inc()
        if self._reason_to_cut(address) and self._look is None:
            self._look = self._loop.call_later(LOOK_SECONDS, self._cut_the_oldest)

    def discard(self, connection: Awaited) -> None:
        if connection not in self._since:
            return
        _, address = self._since.pop(connection)
        metrics.awaited_requests.dec()
        if address:
            del self._by_address[address][connection]
            if not self._by_address[address]:
                del self._by_address[address]

    def cut_one(self, reason: str) -> None:
        """Cut the oldest, whatever its age."""
        for connection in self._since:
            connection.cut(reason)
            return

    def _reason_to_cut(self, address: str) -> str:
        if len(self._by_address.get(address, ())) > settings.AWAITED_REQUESTS_PER_ADDRESS:
            return "too many silent connections of one address"
        return "too many silent connections" if len(self._since) > settings.AWAITED_REQUESTS else ""

    def _cut_the_oldest(self) -> None:
        self._look = None
        for address in list(self._by_address):
            excess = len(self._by_address[address]) - settings.AWAITED_REQUESTS_PER_ADDRESS
            self._cut_first(excess, self._by_address[address], "too many silent connections of one address")
        self._cut_first(
            len(self._since) - settings.AWAITED_REQUESTS, self._since, "too many silent connections"
        )
        if any(map(self._reason_to_cut, ("", *self._by_address))):
            self._look = self._loop.call_later(LOOK_SECONDS, self._cut_the_oldest)

    def _cut_first(self, count: int, connections: Iterable[Awaited], reason: str) -> None:
        until = self._loop.time() - GRACE_SECONDS
        for connection in list(connections)[: max(0, count)]:
            if self._since[connection][0] > until:
                return
            connection.cut(reason)


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, AwaitedRequests] = WeakKeyDictionary()


def awaited_requests_of(loop: asyncio.AbstractEventLoop) -> AwaitedRequests:
    """Return those of this server."""
    if loop not in _of_loops:
        _of_loops[loop] = AwaitedRequests(loop)
    return _of_loops[loop]
