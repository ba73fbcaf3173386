"""One per server process: which connections are here, and what arrives for them.

The process listens with one channel; the groups on the layer tell it what to listen to, and it delivers
to its own connections. Durable events pass through a stream per user.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from typing import Any

from django.conf import settings

from hplus.operations import metrics
from hplus.realtime.execution.batches import Batches
from hplus.realtime.execution.db_threads import in_db_thread, in_reconciliation_thread
from hplus.realtime.groups import PERSONS, Group
from hplus.realtime.hub import presence
from hplus.realtime.hub.conflation import Conflation
from hplus.realtime.hub.listener import Audience, Listener
from hplus.realtime.hub.neighbours import Neighbours
from hplus.realtime.hub.reconciliation import Reconciliation
from hplus.realtime.hub.server_registration import ServerRegistration
from hplus.realtime.hub.subscriptions import Subscriptions
from hplus.realtime.hub.user_stream import UserStream, deliver_to
from hplus.realtime.hub.waiting_bytes import WaitingBytes
from hplus.realtime.publishing import event_types
from hplus.realtime.publishing.envelopes import Delivery
from hplus.realtime.publishing.publisher import Publisher, set_publisher

logger = logging.getLogger(__name__)


class Hub:
    """Connections by group and by user, and the tasks that serve them."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.neighbours = Neighbours()
        self.publisher = Publisher(self.loop, self._route, self._has_connection, self.neighbours.is_alone)
        self.server = ServerRegistration()
        self._reconciliation = Reconciliation(self.server)
        self.clients: set[Listener] = set()
        self.streams: dict[str, UserStream] = {}
        self._conflations = {
            "latest": Conflation(
                lambda: settings.LOCATION_FLUSH_SECONDS,
                self._listeners,
                lambda: settings.LOCATION_INTERVAL_SECONDS,
            ),
            "live": Conflation(lambda: settings.PRESENCE_FLUSH_SECONDS, self._listeners),
        }
        self.is_draining = False
        self._groups: dict[str, set[Listener]] = defaultdict(set)
        self._subscriptions = Subscriptions(self._groups)
        self.batches = Batches()
        self.waiting_bytes = WaitingBytes()
        self._tasks: list[asyncio.Task[None]] = []
        self._departures: set[asyncio.Task[None]] = set()

    # Starting and stopping

    @classmethod
    def of_this_process(cls) -> Hub:
        """Return the hub of the running loop, started at the first call."""
        global _current
        loop = asyncio.get_running_loop()
        if _current is None or _current.loop is not loop:
            _current = cls()
            _current.start()
        return _current

    def start(self) -> None:
        set_publisher(self.publisher)
        self.batches.open()
        metrics.connections.set_function(lambda: len(self.clients))
        self._tasks = [
            self.loop.create_task(supervised(self._listen)),
            self.loop.create_task(supervised(self._reconcile_forever)),
        ]

    async def stop(self, grace_seconds: float = 5) -> None:
        """Answer what has been accepted, then close every connection with 1012; nothing waits for ever."""
        global _current
        self.is_draining = True
        await _within(grace_seconds + 1, *(c.finish(1012, grace_seconds) for c in tuple(self.clients)))
        await _within(1, self.batches.drained(), *self._departures)
        await _within(1, self.publisher.drained(), in_db_thread(self.server.retire))
        for task in self._tasks:
            task.cancel()
        await _within(1, *self._tasks, self.batches.close())
        set_publisher(None)
        if _current is self:
            _current = None

    # Who listens to what

    def _has_connection(self, user_id: str) -> bool:
        """Whether this user has a registered connection here, whose departure will be looked into."""
        stream = self.streams.get(user_id)
        return stream is not None and stream.last_seq is not None

    def add(self, client: Listener) -> UserStream:
        """Deliver to this connection from now on. Returns the stream of its user."""
        self.clients.add(client)
        stream = self.streams.get(client.user_id)
        if stream is None:
            stream = self.streams[client.user_id] = UserStream(client.user_id)
        stream.clients.add(client)
        for conflation in self._conflations.values():
            conflation.begin(client)
        return stream

    async def join(self, client: Listener, groups: list[Group]) -> None:
        """Subscribe to these groups.

        Where the layer does not answer this ends after two seconds, and the next reconciliation subscribes.
        """
        names = {group.name for group in groups}
        client.group_names |= names
        for name in names:
            self._groups[name].add(client)
            for conflation in self._conflations.values():
                conflation.join(client, (name, ""))
        self._subscriptions.joined(names)
        try:
            await asyncio.wait_for(asyncio.shield(self._subscriptions.settle()), 2)
        except TimeoutError:
            logger.warning("The channel layer does not answer; subscriptions will follow")

    def unsubscribe(self, client: Listener, groups: Iterable[Group]) -> None:
        """Deliver to this connection no more what is for these groups."""
        names = {group.name for group in groups} & client.group_names
        client.group_names -= names
        for name in names:
            self._remove(client, name)

    def _remove(self, client: Listener, name: str) -> None:
        """The layer is told at the next subscription or reconciliation."""
        self._groups[name].discard(client)
        if not self._groups[name]:
            del self._groups[name]
            self._subscriptions.left(name)
            self._forget((name, ""))

    def leave(self, client: Listener) -> None:
        self.clients.discard(client)
        for conflation in self._conflations.values():
            conflation.leave(client)
        for name in client.group_names:
            self._remove(client, name)
        stream = self.streams.get(client.user_id)
        if stream is not None:
            stream.clients.discard(client)
            if not stream.clients:
                del self.streams[client.user_id]
                self._forget((PERSONS, client.user_id))

    def depart(self, departure: Coroutine[Any, Any, None]) -> None:
        """Do what is to be done after a connection has ended."""
        task = self.loop.create_task(departure)
        self._departures.add(task)
        task.add_done_callback(self._departures.discard)

    def _forget(self, audience: Audience) -> None:
        for conflation in self._conflations.values():
            conflation.forget(audience)

    # What arrives

    async def _listen(self) -> None:
        await self._subscriptions.begin()
        await self.publisher.say_hello()
        while True:
            message = await self._subscriptions.receive()
            if message["origin"] != self.publisher.origin and message.get("is_server"):
                self.neighbours.note_heard()
            for delivery in self.publisher.deliveries_of(message):
                self._route(delivery)

    def _route(self, delivery: Delivery) -> None:
        """Deliver to the connections here: a durable event through its streams, any other as it is."""
        envelope = delivery.envelope
        for user_id, seq in envelope.seqs.items():
            if stream := self.streams.get(user_id):
                stream.receive(seq, envelope)
        if envelope.event_id:
            return
        if kind := event_types.conflated().get(envelope.event_type):
            audience = (delivery.group, delivery.person)
            self._conflations[kind].offer(audience, envelope)
            return
        if envelope.event_type in event_types.revoking():
            for conflation in self._conflations.values():
                conflation.revoke(envelope.author, envelope.topic)
        for client in tuple(self._listeners((delivery.group, delivery.person))):
            if client.user_id not in envelope.but:
                deliver_to(client, envelope)

    def _listeners(self, audience: Audience) -> Collection[Listener]:
        group, person = audience
        if person:
            stream = self.streams.get(person)
            return stream.clients if stream else ()
        return self._groups.get(group, ())

    # Reconciliation: what a lost wake-up, a revoked session or a dead neighbour left to do

    async def _reconcile_forever(self) -> None:
        while True:
            await asyncio.sleep(settings.RECONCILE_SECONDS)
            await self.reconcile()

    async def reconcile(self) -> None:
        """Compare this process with the database. Raises nothing: where it is frozen, the next one tries."""
        here = tuple(self.clients)
        connections = [client.connection for client in here if client.connection is not None]
        admin_session_keys = {client.admin_session_key for client in here} - {""}
        try:
            found = await in_reconciliation_thread(
                self._reconciliation.reconcile, connections, admin_session_keys
            )
            if found.was_taken_for_dead:
                await in_reconciliation_thread(presence.come_back, connections)
        except Exception as unreachable:
            logger.warning("A reconciliation failed: %s", type(unreachable).__name__)
            self._reconciliation.see_all_again()
            return
        self.neighbours.note_registered(found.has_neighbours)
        for user_id, last_seq in found.last_seqs:
            if stream := self.streams.get(user_id):
                stream.expect(last_seq)
        for stream in self.streams.values():
            if stream.is_behind:  # perhaps since a reconciliation before, where reading failed
                stream.fetch_missing()
        for client in here:
            if refusal := found.refusal_for(client):
                self.loop.create_task(client.expel(refusal))
        await self._resubscribe()

    async def _resubscribe(self) -> None:
        try:
            await asyncio.wait_for(self._subscriptions.settle(), settings.RECONCILE_SECONDS)
        except Exception as unreachable:
            logger.warning("The channel layer does not answer: %s", type(unreachable).__name__)


_current: Hub | None = None


async def _within(seconds: float, *works: Awaitable[object]) -> None:
    """Wait so long and no longer; what fails while everything ends is only counted in the log."""
    tasks = [asyncio.ensure_future(work) for work in works]
    if not tasks:
        return
    done, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        task.cancel()
    failed = [task for task in done if not task.cancelled() and task.exception() is not None]
    if late or failed:
        logger.warning("At the end %s were late and %s failed", len(late), len(failed))


async def supervised(work: Callable[[], Awaitable[None]]) -> None:
    """Run for ever; what breaks is logged and begun again, so that no server goes deaf in silence."""
    while True:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("%s broke and is begun again", work.__name__)
            await asyncio.sleep(1)
