"""The server's side of one connection: in, out, and how it ends. It carries; it knows no domain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from django.conf import settings

from hplus import errors
from hplus.accounts.actions import Identity
from hplus.accounts.models import User
from hplus.api.answers import internal_error
from hplus.operations import metrics
from hplus.protocol import wire
from hplus.realtime import groups, messages
from hplus.realtime.actions import Command, Result
from hplus.realtime.connection import actions
from hplus.realtime.connection.handshake import Frame, Send, ack_of, error_event
from hplus.realtime.connection.inbound import Inbound
from hplus.realtime.connection.outbound import Outbound
from hplus.realtime.execution.db_threads import Deadline, in_db_thread
from hplus.realtime.hub.hub import Hub
from hplus.realtime.hub.listener import Audience
from hplus.realtime.models import Connection
from hplus.realtime.publishing import event_types
from hplus.realtime.publishing.envelopes import Envelope

logger = logging.getLogger(__name__)
BuffersDelivery = bool | Callable[[Any, Any], bool]  # of a consumer and its request


@dataclass(frozen=True)
class Handler:
    """How one request is handled: by a method in a database thread or in the loop, or by a batch action."""

    request: type[wire.Request]
    method: str
    batch: Callable[..., Any] | None = None
    buffers_delivery: BuffersDelivery = False
    in_loop: bool = False

    def must_buffer(self, consumer: Consumer, request: wire.Request) -> bool:
        if callable(self.buffers_delivery):
            return self.buffers_delivery(consumer, request)
        return self.buffers_delivery


class Consumer(Protocol):
    """What a connection needs of each domain's consumer (see `DomainConsumer`)."""

    handlers: Sequence[Handler]

    @classmethod
    def overrides(cls, method: str) -> bool: ...
    def snapshot(self) -> dict[str, Any]: ...
    def on_connect(self) -> Result | None: ...
    def on_settled(self) -> Result | None: ...
    def on_ack(self, seq: int) -> None: ...
    def on_disconnect(self) -> None: ...
    def on_event(self, envelope: Envelope) -> Envelope | None: ...
    def on_delivered(self, envelope: Envelope) -> None: ...


MakeConsumer = Callable[["Client"], Consumer]


class Client:
    """Handles frames in order, each through its domain's consumer, and writes what arrives."""

    def __init__(self, hub: Hub, identity: Identity, send: Send, hosted: Iterable[MakeConsumer]) -> None:
        self.hub, self.identity, self._send = hub, identity, send
        self.consumers = [make_consumer(self) for make_consumer in hosted]
        self.connection_id = wire.new_id()
        self.connection: Connection | None = None
        self.group_names: set[str] = set()
        self.handlers: Mapping[str, tuple[Consumer, Handler]] = {
            handler.request.type: (consumer, handler)
            for consumer in self.consumers
            for handler in consumer.handlers
        }
        self.inbound = Inbound(self)
        self.outbound = Outbound(send, self._on_written, self._too_slow)
        self._event_consumers = [c for c in self.consumers if c.overrides("on_event")]
        self._delivery_consumers = [c for c in self.consumers if c.overrides("on_delivered")]
        self._deadline = Deadline()
        self._buffered: list[Envelope] | None = []
        self._closing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def user(self) -> User:
        return self.identity.user

    @property
    def user_id(self) -> str:
        return self.identity.user.user_id

    @property
    def expires_at(self) -> datetime | None:
        return self.identity.expires_at

    @property
    def admin_session_key(self) -> str:
        return self.identity.admin_session_key

    @property
    def audiences(self) -> list[Audience]:
        """The groups it listens to, and its user as one person."""
        return [*((name, "") for name in self.group_names), (groups.PERSONS, self.user_id)]

    @property
    def is_listening(self) -> bool:
        """Whether what arrives may be written at once."""
        return self._buffered is None

    def renew(self, identity: Identity) -> Result:
        """Take a fresh token of the same user, perhaps of a new session."""
        self.identity = identity
        if self.connection is not None:
            self.connection.session = identity.session
        return Result(events=[actions.login_success(identity)])

    # In

    def request_class(self, request_type: str) -> type[wire.Request] | None:
        handled = self.handlers.get(request_type)
        return handled[1].request if handled else None

    async def handle(self, came_at: float, frame: Frame) -> None:
        """Answer one frame: the one place where a request becomes a reply, and an exception a coded error."""
        no_reply, request = False, None
        try:
            consumer, handler = self._handler_for(frame)
            no_reply = handler.request.no_reply
            if handler.request.rate_limited:
                self.inbound.take_message_credit()
            request = handler.request.read(frame)
            if handler.must_buffer(consumer, request):
                self._buffered = []
            metrics.frames_in.labels(request.type).inc()
            with metrics.action_seconds.time():
                result = await self._deadline.run(came_at, self._run, consumer, handler, request)
            await self._reply(request, result)
            if result is not None and result.after_reply is not None:
                await self._after(0, result.after_reply)
        except errors.Refusal as refusal:
            is_misspelt = request is None and isinstance(refusal, errors.ValidationFailed)
            if not no_reply or is_misspelt:
                self.refuse(refusal, frame)
        except Exception as unforeseen:
            self.refuse(internal_error(unforeseen), frame)
        finally:
            self.release()

    def reply_to_heartbeat(self, frame: Frame) -> None:
        try:
            request = messages.Heartbeat.read(frame)
            self.send_event(actions.heartbeat(request))
            self._acknowledge(request, None)
        except errors.Refusal as refusal:
            self.refuse(refusal, frame)

    def _handler_for(self, frame: Frame) -> tuple[Consumer, Handler]:
        request_type = frame.get("type")
        if not isinstance(request_type, str) or not request_type:
            raise errors.InvalidMessage(reason="type is missing", field="type")
        if request_type not in self.handlers:
            raise errors.UnknownType(field="type")
        return self.handlers[request_type]

    async def _run(self, consumer: Consumer, handler: Handler, request: wire.Request) -> Result | None:
        method = getattr(consumer, handler.method)
        if handler.batch is not None:
            outcome = await self.hub.batch(handler.batch).submit(Command(self.user, request))
            return method(request, outcome)
        if handler.in_loop:
            return await method(request)
        result = await in_db_thread(method, request)
        if result is not None and result.subscribe:
            await self.hub.join(self, list(result.subscribe))
        if result is not None and result.unsubscribe:
            self.hub.unsubscribe(self, result.unsubscribe)
        return result

    # Out

    async def _reply(self, request: wire.Request, result: Result | None) -> None:
        if result is not None:
            await self.send_result(result)
        self._acknowledge(request, result)
        if result is not None and result.close_code:
            self._end_soon(result.close_code)

    def _acknowledge(self, request: wire.Request, result: Result | None) -> None:
        if ack := ack_of(request, result):
            self.send_event(ack)

    def refuse(self, refusal: errors.Refusal, frame: Frame) -> None:
        self.send_event(error_event(refusal, frame))
        if refusal.close_code:
            self._end_soon(refusal.close_code)

    async def send_result(self, result: Result) -> None:
        """Write its events as fast as the client reads; only what it did not ask for piles up."""
        for event in result.events:
            if not await self.outbound.wait_for_room():
                self._too_slow()
                return
            if not isinstance(event, Envelope):
                self.send_event(event)
            elif result.replayed or not self._comes_by_itself(event):
                self.outbound.put_event(event, again=result.replayed)

    def _comes_by_itself(self, envelope: Envelope) -> bool:
        """Whether it is still on its way, or buffered: written now it would overtake those before it."""
        stream = self.hub.streams.get(self.user_id)
        is_on_its_way = stream is not None and (envelope.seq or 0) > (stream.last_seq or 0)
        return is_on_its_way or any(held.event_id == envelope.event_id for held in self._buffered or ())

    def send_event(self, event: wire.Event) -> None:
        self.outbound.put(event.frame())

    def write_many(self, frames: Sequence[str]) -> None:
        for frame in frames:
            self.outbound.put(frame)

    @property
    def has_room(self) -> bool:
        return self.outbound.has_room

    def wait_for_room(self) -> Awaitable[bool]:
        return self.outbound.wait_for_room()

    def deliver(self, envelope: Envelope) -> None:
        """Something has arrived for this connection."""
        if self._buffered is not None:
            self._buffered.append(envelope)
            if len(self._buffered) > settings.OUTBOUND_FRAMES:
                self._too_slow()
            return
        if envelope.event_type == messages.SignedOut.type:
            self._on_signed_out(envelope)
            return
        for consumer in self._event_consumers:
            taken = consumer.on_event(envelope)
            if taken is None:
                return
            envelope = taken
        if envelope.event_type not in event_types.internal():
            self.outbound.put_event(envelope)

    def _on_signed_out(self, envelope: Envelope) -> None:
        if envelope.topic != self.connection_id:
            self._end_soon(4005, errors.SessionRevoked())

    def release(self) -> None:
        """Deliver what was buffered, without what has been written meanwhile."""
        buffered, self._buffered = self._buffered, None
        for envelope in buffered or ():
            self.deliver(envelope)

    def _on_written(self, envelope: Envelope) -> None:
        for consumer in self._delivery_consumers:
            consumer.on_delivered(envelope)

    def _too_slow(self) -> None:
        self._end_soon(4103, errors.SlowConsumer())

    # Later, and the end

    def later(self, seconds: float, work: Callable[[], object], where: Any = in_db_thread) -> None:
        """Run this in a database thread after a while, if the connection still lives. From any thread."""
        self.hub.loop.call_soon_threadsafe(self._start, self._after(seconds, work, where))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        if self.outbound.is_closed:
            work.close()
            return
        task = self.hub.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _after(self, seconds: float, work: Callable[[], object], where: Any = in_db_thread) -> None:
        await asyncio.sleep(seconds)
        try:
            result = await where(work)
        except errors.InternalError:  # logged already
            self._deadline.is_stuck = True
            return
        except Exception as unforeseen:
            internal_error(unforeseen)
            return
        if isinstance(result, Result):
            await self.send_result(result)

    def stop_writing(self) -> None:
        """The client has gone: nothing is written any more, and what was to run later is cancelled."""
        self.outbound.close()
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    async def expel(self, refusal: errors.Refusal) -> None:
        """End this connection from the server's side, with the reason."""
        self._end_soon(refusal.close_code or 1011, refusal)

    async def finish(self, code: int, grace_seconds: float) -> None:
        """Answer what has been accepted, then close."""
        self._end_soon(code, grace_seconds=grace_seconds)
        if self._closing is not None:
            await self._closing

    def _end_soon(self, code: int, refusal: errors.Refusal | None = None, grace_seconds: float = 5) -> None:
        if self._closing is None and not self.outbound.is_closed:
            ending = self._end(code, refusal, grace_seconds)
            self._closing = asyncio.get_running_loop().create_task(ending)
            self.inbound.is_closed = True

    async def _end(self, code: int, refusal: errors.Refusal | None, grace_seconds: float) -> None:
        if refusal is None:
            await self.inbound.drained(grace_seconds)
        else:
            self.send_event(error_event(refusal))
        await self.outbound.drained(grace_seconds)
        self.outbound.is_closed = True
        try:
            await asyncio.wait_for(self._send({"type": "websocket.close", "code": code}), 10)
        except Exception as gone:
            logger.debug("Not closed: %s", type(gone).__name__)
