"""What every domain's ears have in common, and the words of the connection itself.

A domain consumer names the requests it handles and calls one action for each. It is a real
Channels consumer: alone it serves `/ws/<domain>/`, and `HPlusConsumer` hosts one of each
domain on the one socket at `/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from channels.consumer import AsyncConsumer

from hplus import wire
from hplus.accounts.models import User
from hplus.realtime import actions, catching_up, messages, presence
from hplus.realtime.answers import Answer
from hplus.realtime.parcels import Parcel
from hplus.realtime.visit import Visit

if TYPE_CHECKING:
    from hplus.realtime.socket import Socket


Holds = bool | Callable[[Any, Any], bool]  # of a consumer and its request


@dataclass(frozen=True)
class Handler:
    """How one request is handled: by a method in a thread or in the loop, or by an action that takes
    a batch."""

    request: type[wire.Request]
    method: str
    batch: Callable[..., Any] | None = None
    holds: Holds = False
    in_loop: bool = False

    def must_hold(self, ear: DomainConsumer, request: wire.Request) -> bool:
        return self.holds(ear, request) if callable(self.holds) else self.holds


def handles(request: type[wire.Request], *, holds: Holds = False) -> Callable[[Any], Any]:
    """The method answers this request, in a thread.

    With `holds`, what arrives for the socket meanwhile waits until the answer is written: for
    a request that reads what it subscribes to.
    """

    def mark(method: Any) -> Any:
        method.handler = Handler(request, method.__name__, holds=holds)
        return method

    return mark


def in_batches(
    request: type[wire.Request], action: Callable[..., Any], *, holds: Holds = False
) -> Callable[[Any], Any]:
    """The action takes all waiting requests at once; the method gets the answer to its own, in the loop."""

    def mark(method: Any) -> Any:
        method.handler = Handler(request, method.__name__, batch=action, holds=holds)
        return method

    return mark


def in_loop(request: type[wire.Request]) -> Callable[[Any], Any]:
    """The coroutine answers this request; it never goes to the database but through a batch."""

    def mark(method: Any) -> Any:
        method.handler = Handler(request, method.__name__, in_loop=True)
        return method

    return mark


class DomainConsumer(AsyncConsumer):
    """The ears of one domain on one socket. Override what the domain needs."""

    handlers: ClassVar[tuple[Handler, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.handlers = tuple(m.handler for m in vars(cls).values() if hasattr(m, "handler"))

    def __init__(self, socket: Socket | None = None) -> None:
        self.socket: Socket = socket  # type: ignore[assignment]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await Visit(scope, receive, send, [ConnectionConsumer, *self.hosted()]).take_place()

    @classmethod
    def hosted(cls) -> Iterable[type[DomainConsumer]]:
        return [cls]

    @classmethod
    def overrides(cls, method: str) -> bool:
        """Whether this domain does anything there; else the socket need not ask."""
        return getattr(cls, method) is not getattr(DomainConsumer, method)

    @property
    def user(self) -> User:
        return self.socket.user

    # In a thread, at the handshake

    def snapshot(self) -> dict[str, Any]:
        """The domain's part of `connection_established.data`."""
        return {}

    def greet(self) -> Answer | None:
        """What a new socket gets right after it is connected."""
        return None

    def greet_late(self) -> Answer | None:
        """What a socket gets that has been there for half a second."""
        return None

    def acknowledged(self, seq: int) -> None:
        """The client has everything up to this letter."""

    def left(self) -> None:
        """The socket has gone."""

    # In the loop; quick, and never to the database

    def hear(self, parcel: Parcel) -> Parcel | None:
        """What this socket makes of what arrives: as it is, in another dress, or nothing."""
        return parcel

    def wrote(self, parcel: Parcel) -> None:
        """This has been written to the socket."""


class HostConsumer(DomainConsumer):
    """The one socket: hosts an object of each domain, no more."""

    domains: ClassVar[tuple[type[DomainConsumer], ...]] = ()

    @classmethod
    def hosted(cls) -> Iterable[type[DomainConsumer]]:
        return cls.domains


class ConnectionConsumer(DomainConsumer):
    """Signing in and out, presence and replay."""

    @handles(messages.Login)
    def login(self, request: messages.Login) -> Answer:
        return self.socket.renew(actions.login(self.user, self.socket.connection_id, request))

    @handles(messages.Logout)
    def logout(self, request: messages.Logout) -> Answer:
        return actions.logout(self.socket.identity, self.socket.connection_id, request)

    @handles(messages.Heartbeat)
    def heartbeat(self, request: messages.Heartbeat) -> Answer:
        return Answer(says=[actions.heartbeat(request)])

    @handles(messages.JoinHospital)
    def join_hospital(self, request: messages.JoinHospital) -> Answer:
        return actions.join_hospital(self.user, request.hospital_id)

    @handles(messages.GoOnline)
    def go_online(self, request: messages.GoOnline) -> None:
        presence.set_status(self.user, request.status)

    @handles(messages.GoOffline)
    def go_offline(self, request: messages.GoOffline) -> None:
        presence.set_status(self.user, "offline")

    @handles(messages.Sync, holds=True)
    def sync(self, request: messages.Sync) -> Answer:
        return catching_up.sync(self.user, request)

    @handles(messages.Acknowledge)
    def acknowledge(self, request: messages.Acknowledge) -> None:
        for ear in self.socket.ears:
            ear.acknowledged(request.seq)
