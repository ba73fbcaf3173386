"""The server's side of one connection: in, out, and how it ends. It carries; it knows no domain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings

from hplus import errors
from hplus.accounts.actions import Identity
from hplus.accounts.models import User
from hplus.api.answers import internal_error
from hplus.operations import metrics
from hplus.protocol import wire
from hplus.realtime import groups, messages
from hplus.realtime.actions import Command, Result
from hplus.realtime.connection import actions, rate_limits
from hplus.realtime.connection.handlers import Consumer, Handler, handler_table, watchers
from hplus.realtime.connection.handshake import Frame, ack_of, error_event
from hplus.realtime.connection.inbound import Inbound
from hplus.realtime.connection.long_replay import LongReplay
from hplus.realtime.connection.outbound import Outbound
from hplus.realtime.connection.request_handling import RequestHandling
from hplus.realtime.connection.transport import Transport
from hplus.realtime.execution.db_threads import Deadline, in_db_thread, in_urgent_thread
from hplus.realtime.hub.hub import Hub
from hplus.realtime.hub.listener import Audience
from hplus.realtime.models import Connection
from hplus.realtime.publishing import event_types
from hplus.realtime.publishing.envelopes import Envelope

logger = logging.getLogger(__name__)
MakeConsumer = Callable[["Client"], Consumer]
Buffered = tuple[Envelope, int | None]  # what arrived, and its place in the mailbox where it has one


class Client:
    """Handles frames in order, each through its domain's consumer, and writes what arrives."""

    __slots__ = (
        "__weakref__",
        "_buffered",
        "_buffered_bytes",
        "_closing",
        "_delivery_consumers",
        "_event_consumers",
        "_long_replay",
        "_replayed_up_to",
        "_table",
        "_tasks",
        "connection",
        "connection_id",
        "consumers",
        "deadline",
        "group_names",
        "had_up_to",
        "hub",
        "identity",
        "inbound",
        "outbound",
        "transport",
        "user_id",
    )

    def __init__(
        self, hub: Hub, identity: Identity, transport: Transport, hosted: Iterable[MakeConsumer]
    ) -> None:
        self.hub, self.identity, self.transport = hub, identity, transport
        self.user_id = identity.user.user_id
        self.had_up_to = 0  # the place in the mailbox up to which the client had everything before
        self.consumers = [make_consumer(self) for make_consumer in hosted]
        classes = tuple(type(consumer) for consumer in self.consumers)
        self._table = handler_table(classes)
        self._event_consumers = watchers(classes, "on_event")
        self._delivery_consumers = watchers(classes, "on_delivered")
        self.connection_id = wire.new_id()
        self.connection: Connection | None = None
        self.group_names: set[str] = set()
        self.outbound = Outbound(transport, self._on_written, self.too_slow)
        self.inbound = Inbound(self, transport, self.outbound.on_writable, hub.waiting_bytes)
        transport.attach(self.inbound)
        self.deadline = Deadline()
        self._buffered: list[Buffered] | None = []
        self._buffered_bytes = 0
        self._long_replay: LongReplay | None = None
        self._replayed_up_to = 0  # what comes live at or before this place has been read from the mailbox
        self._closing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] | None = None  # made when needed

    @property
    def user(self) -> User:
        return self.identity.user

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

    def request_class(self, request_type: object) -> type[wire.Request] | None:
        handled = self._table.get(request_type) if isinstance(request_type, str) else None
        return handled[1].request if handled else None

    def handle(self, came_at: float, frame: Frame, on_done: Callable[[], None]) -> bool:
        """Begin to answer one frame. Returns whether that is done; if not, `on_done` is called once it is."""
        handler = None
        try:
            number, handler = self._handler_for(frame)
            if handler.request.rate_limited:
                self.inbound.take_message_credit(came_at)
            request = handler.request.read(frame)
        except Exception as refused:
            self.refuse_request(refused, frame, handler, is_read=False)
            return True
        consumer = self.consumers[number]
        if handler.must_buffer(consumer, request) and self._buffered is None:
            self._buffered, self._buffered_bytes = [], 0
        metrics.requests.counts[request.type] += 1
        handling = RequestHandling(self, consumer, handler, request, came_at, on_done)
        if handler.in_loop:
            return handling.answer_in_loop()
        if not handler.fast or not self._submit_hot(handler, request, handling):
            handling.start()
        return False

    def _submit_hot(self, handler: Handler, request: wire.Request, handling: RequestHandling) -> bool:
        """Whether the request goes the fast way."""
        assert handler.fast is not None
        assert handler.batch is not None
        hot = self.hub.batches.fast(handler.fast, handler.batch)
        if hot is None or self.deadline.is_stuck:
            return False
        hot.submit(Command(self.user, request), handling.on_outcome)
        return True

    def refuse_request(
        self, refused: Exception, frame: Frame, handler: Handler | None, *, is_read: bool
    ) -> None:
        """Answer with a coded error; where the client must not be bothered, only for a misspelt request."""
        if not isinstance(refused, errors.Refusal):
            self.refuse(internal_error(refused), frame)
            return
        is_misspelt = not is_read and isinstance(refused, errors.ValidationFailed)
        if handler is None or not handler.request.no_reply or is_misspelt:
            self.refuse(refused, frame)

    def reply_to_heartbeat(self, frame: Frame) -> None:
        try:
            request = messages.Heartbeat.read(frame)
            self.send_event(actions.heartbeat(request))
            self.reply(request, None)
        except errors.Refusal as refusal:
            self.refuse(refusal, frame)

    def _handler_for(self, frame: Frame) -> tuple[int, Handler]:
        request_type = frame.get("type")
        if not isinstance(request_type, str) or not request_type:
            raise errors.InvalidMessage(reason="type is missing", field="type")
        if request_type not in self._table:
            raise errors.UnknownType(field="type")
        return self._table[request_type]

    async def run(self, consumer: Consumer, handler: Handler, request: wire.Request) -> Result | None:
        """Do what the request asks for. Raises its refusal."""
        method = getattr(consumer, handler.method)
        if handler.batch is not None:
            outcome = await self.hub.batches.of(handler.batch).submit(Command(self.user, request))
            return method(request, outcome)
        if request.long_answer:
            result = await self._long_answer(method, request)
        else:
            result = await (in_urgent_thread if request.urgent else in_db_thread)(method, request)
        if result is not None and result.subscribe:
            await self.hub.join(self, list(result.subscribe))
        if result is not None and result.unsubscribe:
            self.hub.unsubscribe(self, result.unsubscribe)
        return result

    async def _long_answer(
        self, method: Callable[..., Result | None], request: wire.Request
    ) -> Result | None:
        """Read it in its turn, and charge for what was read. Raises RateLimited."""
        async with rate_limits.long_answers.in_turn(self.user_id):
            result = await in_db_thread(method, request)
        if result is not None:
            rate_limits.message_limits.charge(self.user_id, result.cost)
        return result

    # Out

    def reply(self, request: wire.Request, result: Result | None) -> None:
        """Write the acknowledgement, after the events of the result."""
        if ack := ack_of(request, result):
            self.send_event(ack)
        if result is not None and result.close_code:
            self._end_soon(result.close_code)

    def refuse(self, refusal: errors.Refusal, frame: Frame) -> None:
        self.send_event(error_event(refusal, frame))
        if refusal.close_code:
            self._end_soon(refusal.close_code)

    async def send_result(self, result: Result) -> None:
        """Write its events as fast as the client reads; only what it did not ask for piles up."""
        for event in result.events:
            if not await self.outbound.wait_for_room():
                self.too_slow()
                return
            if not isinstance(event, Envelope):
                self.send_event(event)
            elif event.seq is None:  # its entry is past keeping
                self.outbound.put_unplaced(event)
            elif result.replayed:
                self.outbound.put_other(event, event.seq, again=True)
            elif self._long_replay is not None and event.seq > self._long_replay.position:
                self._put_ahead(event, event.seq)
            elif not self._comes_by_itself(event):
                self.outbound.put_other(event, event.seq)
        if result.next_page is not None:
            self._start(self._send_page(result.next_page))

    async def _send_page(self, read: Callable[[], Result | None]) -> None:
        """Read and write one more page, when the reader has taken what was before it."""
        if not await self.outbound.wait_until_drained():
            self.too_slow()
            return
        await self.after(0, read)

    def _comes_by_itself(self, envelope: Envelope) -> bool:
        """Whether it is still on its way, or buffered: written now it would overtake those before it."""
        stream = self.hub.streams.get(self.user_id)
        is_on_its_way = stream is not None and (envelope.seq or 0) > (stream.last_seq or 0)
        return is_on_its_way or any(seq == envelope.seq for _, seq in self._buffered or ())

    def send_event(self, event: wire.Event) -> None:
        (self.outbound.put_ahead if event.overtakes else self.outbound.put)(event.frame())

    def write_many(self, frames: Sequence[bytes]) -> None:
        self.outbound.put_many(frames)

    @property
    def has_room(self) -> bool:
        return self.outbound.has_room

    def wait_for_room(self) -> Awaitable[bool]:
        return self.outbound.wait_for_room()

    def deliver(self, envelope: Envelope, seq: int | None = None) -> None:
        """Pass an event on to this connection; a durable one comes with its place in the mailbox."""
        if self.outbound.is_sealed:
            return
        if self._long_replay is not None and seq is not None:
            self._long_replay.expect(seq)
            self._put_ahead(envelope, seq)
        elif seq is not None and seq <= self._replayed_up_to:
            return
        elif self._buffered is not None:
            self._buffered.append((envelope, seq))
            self._buffered_bytes += len(envelope.frame)
            is_too_much = self._buffered_bytes > settings.OUTBOUND_BYTES
            if is_too_much or len(self._buffered) > settings.OUTBOUND_FRAMES:
                self.too_slow()
        elif envelope.event_type == messages.SignedOut.type:
            self._on_signed_out(envelope)
        else:
            self.deliver_now(envelope, seq)

    def _put_ahead(self, envelope: Envelope, seq: int) -> None:
        """What is urgent does not wait until the replay is over."""
        is_new = self._long_replay is not None and seq > self._long_replay.position
        if is_new and envelope.event_type in event_types.overtaking():
            self.outbound.put_once_ahead(envelope, seq)

    def deliver_now(self, envelope: Envelope, seq: int | None) -> None:
        """Write an event as the consumers want it on this connection."""
        taken = self._taken_by_consumers(envelope)
        if seq is None:
            if taken is not None and taken.event_type not in event_types.internal():
                self.outbound.put_ephemeral(taken)
        elif taken is envelope:
            self.outbound.put_live(envelope, seq)
        else:
            self.outbound.written.skip_live(seq)
            if taken is not None:
                self.outbound.put(taken.stamped(seq), taken)

    def _taken_by_consumers(self, envelope: Envelope) -> Envelope | None:
        for number in self._event_consumers.get(envelope.event_type, ()):
            taken = self.consumers[number].on_event(envelope)
            if taken is None:
                return None
            envelope = taken
        return envelope

    def _on_signed_out(self, envelope: Envelope) -> None:
        if envelope.topic != self.connection_id:
            self._end_soon(4005, errors.SessionRevoked())

    def start_replay(self, since: int, up_to: int) -> None:
        """Read what lies between these places of the mailbox page by page; what comes after it follows."""
        self._long_replay = LongReplay(self, since, up_to, self._on_replayed)
        self._start(self._long_replay.run())

    def _on_replayed(self) -> None:
        if self._long_replay is not None:
            self._replayed_up_to, self._long_replay = self._long_replay.position, None

    def start_after(self, seq: int, had_up_to: int) -> None:
        """Begin at this place of the mailbox, without what the client has from an earlier connection."""
        buffered = self._buffered or ()
        self._buffered = [(event, at) for event, at in buffered if at is None or at > had_up_to]
        self.had_up_to = had_up_to
        self.outbound.written.start_after(seq, had_up_to)

    def release(self) -> None:
        """Deliver what was buffered, without what has been written meanwhile."""
        buffered, self._buffered = self._buffered, None
        for envelope, seq in buffered or ():
            self.deliver(envelope, seq)

    def _on_written(self, envelope: Envelope) -> None:
        for number in self._delivery_consumers.get(envelope.event_type, ()):
            self.consumers[number].on_delivered(envelope)

    def too_slow(self) -> None:
        """Drop what waits, and write only why: an event after the gap would move the cursor past it."""
        if self.outbound.is_sealed or self.outbound.is_closed:
            return
        self.outbound.clear()
        self._end_soon(4103, errors.SlowConsumer())
        self.outbound.seal()
        self._buffered = self._buffered and []

    # Later, and the end

    def later(self, seconds: float, work: Any, where: Any = in_db_thread) -> None:
        """Run this in a database thread after a while, if the connection still lives; or `where(work)`.

        From any thread.
        """
        self.hub.loop.call_soon_threadsafe(self._start, self.after(seconds, work, where))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        if self.outbound.is_closed:
            work.close()
            return
        if self._tasks is None:
            self._tasks = set()
        task = self.hub.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def after(self, seconds: float, work: Any, where: Any = in_db_thread) -> None:
        await asyncio.sleep(seconds)
        try:
            result = await where(work)
        except errors.InternalError:  # logged already
            self.deadline.is_stuck = True
            return
        except Exception as unforeseen:
            internal_error(unforeseen)
            return
        if isinstance(result, Result):
            await self.send_result(result)

    def stop_writing(self) -> None:
        """Write nothing any more, and cancel what was to run later: the client has gone."""
        self.outbound.close()
        for task in (self._tasks or set()) - {asyncio.current_task()}:
            task.cancel()

    async def expel(self, refusal: errors.Refusal) -> None:
        """End this connection from the server's side, with the reason."""
        self.end(refusal)

    def end(self, refusal: errors.Refusal) -> None:
        """Write the reason, and nothing after it."""
        self._end_soon(refusal.close_code or 1011, refusal)

    async def finish(self, code: int, grace_seconds: float) -> None:
        """Answer what has been accepted, then close."""
        self._end_soon(code, grace_seconds=grace_seconds)
        if self._closing is not None:
            await self._closing

    def _end_soon(self, code: int, refusal: errors.Refusal | None = None, grace_seconds: float = 5) -> None:
        if self._closing is None and not self.outbound.is_closed:
            if refusal is not None:
                self.outbound.clear()  # the end is urgent, and the mailbox keeps what waits
                self.send_event(error_event(refusal))
                self.outbound.seal()
            ending = self._end(code, 0 if refusal else grace_seconds, grace_seconds)
            self._closing = asyncio.get_running_loop().create_task(ending)
            self.inbound.is_closed = True

    async def _end(self, code: int, reply_seconds: float, grace_seconds: float) -> None:
        await self.inbound.drained(reply_seconds)
        await self.outbound.drained(grace_seconds)
        self.outbound.is_closed = True
        await self.transport.close(code)
