"""One live socket: in, out, and how it ends. It carries; what words mean it does not know."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings

from hplus import errors, metrics, wire
from hplus.accounts.actions import Identity
from hplus.accounts.models import User
from hplus.realtime import actions, groups, messages, words
from hplus.realtime.answers import Answer, Wish
from hplus.realtime.bridge import Line, in_thread
from hplus.realtime.glances import Audience
from hplus.realtime.handshake import Frame, Send, ack_of, error_event
from hplus.realtime.intake import Intake
from hplus.realtime.models import Connection
from hplus.realtime.outbox import Outbox
from hplus.realtime.parcels import Parcel
from hplus.rest import internal_error

if TYPE_CHECKING:
    from hplus.realtime.consumers import DomainConsumer, Handler
    from hplus.realtime.switchboard import Switchboard

logger = logging.getLogger(__name__)


class Socket:
    """Reads frames in order, answers each through its domain, writes what arrives."""

    def __init__(
        self, board: Switchboard, identity: Identity, send: Send, hosted: Iterable[type[DomainConsumer]]
    ) -> None:
        self.board, self.identity, self._send = board, identity, send
        self.ears = [consumer(self) for consumer in hosted]
        self.connection_id = wire.new_id()
        self.connection: Connection | None = None
        self.group_names: set[str] = set()
        self.is_mobile = False  # it tells positions, so it sees others' after those who only watch
        self.handlers = {h.request.type: (ear, h) for ear in self.ears for h in ear.handlers}
        self.intake = Intake(self)
        self.outbox = Outbox(send, self._note, self._too_slow)
        self._hearing = [ear for ear in self.ears if ear.overrides("hear")]
        self._noting = [ear for ear in self.ears if ear.overrides("wrote")]
        self._line = Line()
        self._held: list[Parcel] | None = []
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
    def audiences(self) -> list[Audience]:
        """As whom it hears what is fleeting."""
        return [*((name, "") for name in self.group_names), (groups.PERSONS, self.user_id)]

    @property
    def is_listening(self) -> bool:
        """Whether what arrives may be written at once."""
        return self._held is None

    def renew(self, identity: Identity) -> Answer:
        """A fresh token for the same user, perhaps of a new session."""
        self.identity = identity
        if self.connection is not None:
            self.connection.session = identity.session
        return Answer(says=[actions.login_success(identity)])

    # In

    async def answer(self, came_at: float, frame: Frame) -> None:
        """The one place where a request becomes an answer, and an exception a coded error."""
        quiet, request = False, None
        try:
            ear, handler = self._handler_for(frame)
            quiet = handler.request.quiet
            if handler.request.rate_limited:
                self.intake.spend_credit()
            request = handler.request.read(frame)
            if handler.must_hold(ear, request):
                self._held = []
            metrics.frames_in.labels(request.type).inc()
            with metrics.deed_seconds.time():
                answer = await self._line.ask(came_at, self._ask, ear, handler, request)
            await self._reply(request, answer)
            if answer is not None and answer.then is not None:
                await self._after(0, answer.then)
        except errors.Refusal as refusal:
            is_misspelt = request is None and isinstance(refusal, errors.ValidationFailed)
            if not quiet or is_misspelt:
                self.refuse(refusal, frame)
        except Exception as unforeseen:
            self.refuse(internal_error(unforeseen), frame)
        finally:
            self.release()

    def answer_heartbeat(self, frame: Frame) -> None:
        try:
            request = messages.Heartbeat.read(frame)
            self.say(actions.heartbeat(request))
            self._acknowledge(request, None)
        except errors.Refusal as refusal:
            self.refuse(refusal, frame)

    def _handler_for(self, frame: Frame) -> tuple[DomainConsumer, Handler]:
        word = frame.get("type")
        if not isinstance(word, str) or not word:
            raise errors.InvalidMessage(reason="type is missing", field="type")
        if word not in self.handlers:
            raise errors.UnknownType(field="type")
        return self.handlers[word]

    async def _ask(self, ear: DomainConsumer, handler: Handler, request: wire.Request) -> Answer | None:
        method = getattr(ear, handler.method)
        if handler.batch is not None:
            outcome = await self.board.batch(handler.batch).submit(Wish(self.user, request))
            return method(request, outcome)
        if handler.in_loop:
            return await method(request)
        answer = await in_thread(method, request)
        if answer is not None and answer.joins:
            await self.board.join(self, list(answer.joins))
        return answer

    # Out

    async def _reply(self, request: wire.Request, answer: Answer | None) -> None:
        if answer is not None:
            await self.say_all(answer)
        self._acknowledge(request, answer)
        if answer is not None and answer.close_code:
            self._end_soon(answer.close_code)

    def _acknowledge(self, request: wire.Request, answer: Answer | None) -> None:
        if ack := ack_of(request, answer):
            self.say(ack)

    def refuse(self, refusal: errors.Refusal, frame: Frame) -> None:
        self.say(error_event(refusal, frame))
        if refusal.close_code:
            self._end_soon(refusal.close_code)

    async def say_all(self, answer: Answer) -> None:
        """A long answer goes out as fast as the client reads; only what it did not ask for piles up."""
        for said in answer.says:
            if not await self.outbox.room():
                self._too_slow()
                return
            if not isinstance(said, Parcel):
                self.say(said)
            elif answer.repeats or not self._comes_by_itself(said):
                self.outbox.put_letter(said, again=answer.repeats)

    def _comes_by_itself(self, letter: Parcel) -> bool:
        """What is still on its way, or held, is not told early: it would overtake those before it."""
        slot = self.board.slots.get(self.user_id)
        is_on_its_way = slot is not None and (letter.seq or 0) > (slot.last_seq or 0)
        return is_on_its_way or any(held.event_id == letter.event_id for held in self._held or ())

    def say(self, event: wire.Event) -> None:
        self.outbox.put(event.frame())

    def hear(self, parcel: Parcel) -> None:
        """Something has arrived for this socket."""
        if self._held is not None:
            self._held.append(parcel)
            if len(self._held) > settings.SOCKET_BACKLOG_FRAMES:
                self._too_slow()
            return
        if parcel.word == messages.SignedOut.type:
            self._hear_sign_out(parcel)
            return
        for ear in self._hearing:
            heard = ear.hear(parcel)
            if heard is None:
                return
            parcel = heard
        if parcel.word not in words.internal():
            self.outbox.put_letter(parcel)

    def _hear_sign_out(self, parcel: Parcel) -> None:
        if parcel.topic != self.connection_id:
            self._end_soon(4005, errors.SessionRevoked())

    def release(self) -> None:
        """What was held comes now, without what has been written meanwhile."""
        held, self._held = self._held, None
        for parcel in held or ():
            self.hear(parcel)

    def _note(self, parcel: Parcel) -> None:
        for ear in self._noting:
            ear.wrote(parcel)

    def _too_slow(self) -> None:
        self._end_soon(4103, errors.SlowConsumer())

    # Later, and the end

    def later(self, seconds: float, work: Callable[[], object], where: Any = in_thread) -> None:
        """Do this in a thread after a while, if the socket still lives. From any thread."""
        self.board.loop.call_soon_threadsafe(self._start, self._after(seconds, work, where))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        if self.outbox.is_closed:
            work.close()
            return
        task = self.board.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _after(self, seconds: float, work: Callable[[], object], where: Any = in_thread) -> None:
        await asyncio.sleep(seconds)
        try:
            answer = await where(work)
        except errors.InternalError:  # logged already
            self._line.is_stuck = True
            return
        except Exception as unforeseen:
            internal_error(unforeseen)
            return
        if isinstance(answer, Answer):
            await self.say_all(answer)

    def fall_silent(self) -> None:
        """The client has gone: nothing is written any more, and what was to be done later is not."""
        self.outbox.close()
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    async def expel(self, refusal: errors.Refusal) -> None:
        """The server ends this socket, and says why."""
        self._end_soon(refusal.close_code or 1011, refusal)

    async def finish(self, code: int, grace_seconds: float) -> None:
        """Answer what has been accepted, then close."""
        self._end_soon(code, grace_seconds=grace_seconds)
        if self._closing is not None:
            await self._closing

    def _end_soon(self, code: int, refusal: errors.Refusal | None = None, grace_seconds: float = 5) -> None:
        if self._closing is None and not self.outbox.is_closed:
            ending = self._end(code, refusal, grace_seconds)
            self._closing = asyncio.get_running_loop().create_task(ending)
            self.intake.is_closed = True

    async def _end(self, code: int, refusal: errors.Refusal | None, grace_seconds: float) -> None:
        if refusal is None:
            await self.intake.drained(grace_seconds)
        else:
            self.say(error_event(refusal))
        await self.outbox.drained(grace_seconds)
        self.outbox.is_closed = True
        try:
            await asyncio.wait_for(self._send({"type": "websocket.close", "code": code}), 10)
        except Exception as gone:
            logger.debug("Not closed: %s", type(gone).__name__)
