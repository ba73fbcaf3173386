"""How requests find the consumer that handles them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Protocol

from hplus.protocol import wire
from hplus.realtime.actions import Result
from hplus.realtime.execution.hot_batch import FastPath
from hplus.realtime.publishing.envelopes import Envelope

BuffersDelivery = bool | Callable[[Any, Any], bool]  # of a consumer and its request


@dataclass(frozen=True)
class Handler:
    """How one request is handled: by a method in a database thread or in the loop, or by a batch action."""

    request: type[wire.Request]
    method: str
    batch: Callable[..., Any] | None = None
    fast: FastPath | None = None
    buffers_delivery: BuffersDelivery = False
    in_loop: bool = False

    def must_buffer(self, consumer: Consumer, request: wire.Request) -> bool:
        if callable(self.buffers_delivery):
            return self.buffers_delivery(consumer, request)
        return self.buffers_delivery


class Consumer(Protocol):
    """What a connection needs of each domain's consumer (see `DomainConsumer`)."""

    handlers: Sequence[Handler]
    arrival_probe: ClassVar[str | None]
    settled_probe: ClassVar[str | None]
    watched_events: Sequence[type[wire.Event]]

    @classmethod
    def overrides(cls, method: str) -> bool: ...
    @classmethod
    def snapshot_all(cls, consumers: Sequence[Any]) -> list[dict[str, Any]]: ...
    @classmethod
    def on_connect_all(cls, consumers: Sequence[Any]) -> list[Result | None]: ...
    @classmethod
    def on_ack_all(cls, acks: Sequence[tuple[Any, int]]) -> None: ...
    @classmethod
    def on_settled_all(cls, consumers: Sequence[Any]) -> list[Result | None]: ...
    def is_settled(self) -> bool: ...
    def on_ack(self, seq: int) -> None: ...
    def on_disconnect(self) -> None: ...
    def on_event(self, envelope: Envelope) -> Envelope | None: ...
    def on_delivered(self, envelope: Envelope) -> None: ...


@cache
def handler_table(classes: tuple[type[Consumer], ...]) -> dict[str, tuple[int, Handler]]:
    """Type of a request → the number of the consumer that handles it, and how; one for all connections."""
    return {h.request.type: (number, h) for number, c in enumerate(classes) for h in c.handlers}


@cache
def watchers(classes: tuple[type[Consumer], ...], method: str) -> dict[str, tuple[int, ...]]:
    """Type of an event → the numbers of the consumers whose `method` (`on_event`, `on_delivered`) sees it."""
    found: dict[str, tuple[int, ...]] = {}
    for number, consumer in enumerate(classes):
        if consumer.overrides(method):
            for event in consumer.watched_events:
                found[event.type] = (*found.get(event.type, ()), number)
    return found
