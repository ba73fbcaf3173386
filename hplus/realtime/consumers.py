"""The base of all domain consumers, and the consumer of the connection's own requests.

A domain consumer names the requests it handles and calls one action for each. It is a real Channels
consumer: alone it serves `/ws/<domain>/`, and `HPlusConsumer` hosts one of each domain at `/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Self

from channels.consumer import AsyncConsumer

from hplus.accounts.models import User
from hplus.protocol import wire
from hplus.realtime import messages
from hplus.realtime.actions import Result
from hplus.realtime.connection import actions
from hplus.realtime.connection.client import Client
from hplus.realtime.connection.handlers import BuffersDelivery, Handler
from hplus.realtime.connection.lifecycle import ConnectionLifecycle
from hplus.realtime.execution.hot_batch import FastPath
from hplus.realtime.hub import presence
from hplus.realtime.publishing.envelopes import Envelope


def handles(
    request: type[wire.Request], *, buffers_delivery: BuffersDelivery = False
) -> Callable[[Any], Any]:
    """Mark the method that handles this request in a database thread and returns its result.

    With `buffers_delivery` events that arrive for the connection meanwhile wait until the reply is
    written: for a request that reads what it subscribes to.
    """

    def mark(method: Any) -> Any:
        method.handler = Handler(request, method.__name__, buffers_delivery=buffers_delivery)
        return method

    return mark


def in_batches(
    request: type[wire.Request],
    action: Callable[..., Any],
    *,
    fast: FastPath | None = None,
    buffers_delivery: BuffersDelivery = False,
) -> Callable[[Any], Any]:
    """Mark a request whose action takes all waiting commands at once.

    The method runs in the loop, gets the request and its own result, and returns the result to send.
    A `fast` path does the plain cases in one statement on PostgreSQL.
    """

    def mark(method: Any) -> Any:
        method.handler = Handler(
            request, method.__name__, batch=action, fast=fast, buffers_delivery=buffers_delivery
        )
        return method

    return mark


def in_loop(request: type[wire.Request]) -> Callable[[Any], Any]:
    """Mark a method that answers this request in the loop, and reaches the database only through a batch.

    It returns None, or a function whose coroutine is awaited and gives the result.
    """

    def mark(method: Any) -> Any:
        method.handler = Handler(request, method.__name__, in_loop=True)
        return method

    return mark


class DomainConsumer(AsyncConsumer):
    """One domain on one connection. Override what the domain needs."""

    handlers: ClassVar[tuple[Handler, ...]] = ()
    watched_events: ClassVar[
        Sequence[type[wire.Event]]
    ] = ()  # that `on_event` and `on_delivered` are called for

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.handlers = tuple(m.handler for m in vars(cls).values() if hasattr(m, "handler"))
        if (cls.overrides("on_event") or cls.overrides("on_delivered")) and not cls.watched_events:
            raise TypeError(f"{cls.__name__} watches no events: name them in `watched_events`")

    def __init__(self, client: Client | None = None) -> None:
        self.client: Client = client  # type: ignore[assignment]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await ConnectionLifecycle(scope, receive, send, [ConnectionConsumer, *self.hosted()]).accept()

    @classmethod
    def hosted(cls) -> Iterable[type[DomainConsumer]]:
        return [cls]

    @classmethod
    def overrides(cls, method: str) -> bool:
        """Whether this domain overrides the method; else it need not be called."""
        own, inherited = getattr(cls, method), getattr(DomainConsumer, method)
        return getattr(own, "__func__", own) is not getattr(inherited, "__func__", inherited)

    @property
    def user(self) -> User:
        return self.client.user

    # In a database thread, for all who connect at once. An SQL text selects `user_id` of those for whom there
    # may be something, from `newcomer(user_id, role, hospital_id, is_superuser)`; the others are not asked.
    # Without one all are asked, as on SQLite.

    arrival_probe: ClassVar[str | None] = None  # before `snapshot_all` and `on_connect_all`
    settled_probe: ClassVar[str | None] = None  # before `on_ack_all` (of the cursor) and `on_settled_all`

    @classmethod
    def snapshot_all(cls, consumers: Sequence[Self]) -> list[dict[str, Any]]:
        """Return the domain's part of `connection_established.data` for each of these connections."""
        return [consumer.snapshot() for consumer in consumers]

    @classmethod
    def on_connect_all(cls, consumers: Sequence[Self]) -> list[Result | None]:
        """Return what each new connection gets right after `connection_established`."""
        return [consumer.on_connect() for consumer in consumers]

    @classmethod
    def on_ack_all(cls, acks: Sequence[tuple[Self, int]]) -> None:
        """Each of these clients has everything up to this entry of its mailbox."""
        for consumer, seq in acks:
            consumer.on_ack(seq)

    @classmethod
    def on_settled_all(cls, consumers: Sequence[Self]) -> list[Result | None]:
        """Return what each connection gets UNDELIVERED_AFTER_SECONDS later."""
        return [None for _ in consumers]

    # In a database thread

    def snapshot(self) -> dict[str, Any]:
        """Return the domain's part of `connection_established.data`."""
        return {}

    def on_connect(self) -> Result | None:
        """Return what a new connection gets right after `connection_established`."""
        return None

    def on_ack(self, seq: int) -> None:
        """The client has everything up to this entry of its mailbox."""

    def on_disconnect(self) -> None:
        """The connection has ended."""

    # In the loop; quick, and never to the database

    def is_settled(self) -> bool:
        """Whether `on_settled_all` may be asked now; if not, it is asked later."""
        return True

    def on_event(self, envelope: Envelope) -> Envelope | None:
        """Return the envelope to deliver to this connection: the same, another, or None for nothing."""
        return envelope

    def on_delivered(self, envelope: Envelope) -> None:
        """Note that this durable event has been written to the connection."""


class HostConsumer(DomainConsumer):
    """Hosts a consumer of each domain on one connection."""

    domains: ClassVar[tuple[type[DomainConsumer], ...]] = ()

    @classmethod
    def hosted(cls) -> Iterable[type[DomainConsumer]]:
        return cls.domains


class ConnectionConsumer(DomainConsumer):
    """Requests of the connection itself: signing in and out, presence, replay."""

    @handles(messages.Login)
    def login(self, request: messages.Login) -> Result:
        return self.client.renew(actions.login(self.user, self.client.connection_id, request))

    @handles(messages.Logout)
    def logout(self, request: messages.Logout) -> Result:
        return actions.logout(self.client.identity, self.client.connection_id, request)

    @handles(messages.Heartbeat)
    def heartbeat(self, request: messages.Heartbeat) -> Result:
        return Result(events=[actions.heartbeat(request)])

    @handles(messages.JoinHospital)
    def join_hospital(self, request: messages.JoinHospital) -> Result:
        return actions.join_hospital(self.user, request.hospital_id)

    @handles(messages.GoOnline)
    def go_online(self, request: messages.GoOnline) -> None:
        presence.set_status(self.user, request.status)

    @handles(messages.GoOffline)
    def go_offline(self, request: messages.GoOffline) -> None:
        presence.set_status(self.user, "offline")

    @handles(messages.Sync, buffers_delivery=True)
    def sync(self, request: messages.Sync) -> Result:
        return actions.sync(self.user, request)

    @handles(messages.Acknowledge)
    def acknowledge(self, request: messages.Acknowledge) -> None:
        for consumer in self.client.consumers:
            consumer.on_ack(request.seq)
