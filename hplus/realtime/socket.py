"""One live socket: in, out, and how it ends. It carries; what words mean it does not know."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from hplus import errors, metrics, wire
from hplus.accounts.actions import Claim, Identity
from hplus.accounts.models import User
from hplus.realtime import actions, groups, messages, words
from hplus.realtime.answers import Answer, Wish
from hplus.realtime.bridge import Line, in_thread
from hplus.realtime.consumers import DomainConsumer, Handler
from hplus.realtime.door import Scope, address, claim_of, door, ip_address_of, is_origin_allowed, query
from hplus.realtime.glances import Audience
from hplus.realtime.handshake import (
    Frame,
    Receive,
    Send,
    ack_of,
    error_event,
    first_frame,
    first_login,
    refuse,
    say_and_close,
)
from hplus.realtime.models import Connection
from hplus.realtime.outbox import Outbox
from hplus.realtime.parcels import Parcel
from hplus.realtime.switchboard import Switchboard
from hplus.rest import as_refusal, internal_error

logger = logging.getLogger(__name__)
INBOX_FRAMES = 200  # read ahead of the answers; then the client has to wait
ABUSE_FRAMES = 600  # refused for their rate, one after another


class Socket:
    """Reads frames in order, answers each through its domain, writes what arrives."""

    identity: Identity
    board: Switchboard

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, hosted: Iterable[type[DomainConsumer]]
    ) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.ears = [consumer(self) for consumer in hosted]
        self.connection_id = wire.new_id()
        self.connection: Connection | None = None
        self.group_names: set[str] = set()
        self.is_mobile = False  # it tells positions, so it sees others' after those who only watch
        self.outbox = Outbox(send, self._note, self._too_slow)
        self._handlers = {h.request.type: (ear, h) for ear in self.ears for h in ear.handlers}
        self._hearing = [ear for ear in self.ears if type(ear).hear is not DomainConsumer.hear]
        self._noting = [ear for ear in self.ears if type(ear).wrote is not DomainConsumer.wrote]
        self._late = [ear for ear in self.ears if type(ear).greet_late is not DomainConsumer.greet_late]
        self._inbox: deque[tuple[float, Frame]] = deque()  # when it came, and what
        self._urgent: deque[tuple[float, Frame]] = deque()
        self._line = Line()
        self._room_in_inbox = asyncio.Event()
        self._working: asyncio.Task[None] | None = None
        self._held: list[Parcel] | None = []
        self._rate_refusals = 0
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

    # From the handshake to the end

    async def live(self) -> None:
        await self._receive()
        if not is_origin_allowed(self.scope):
            await self._send({"type": "websocket.close", "code": 4003})
            return
        at = address(self.scope)
        try:
            door.let_in(at)
        except errors.Refusal as refusal:
            await refuse(self._send, refusal, at)
            return
        try:
            await self._live(at)
        finally:
            door.let_out(at)

    async def _live(self, at: str) -> None:
        self.board = await Switchboard.of_this_process()
        if self.board.is_draining:
            await self._send({"type": "websocket.close", "code": 1012})
            return
        try:
            claim = claim_of(self.scope)
            identity = await door.identify(claim)
        except Exception as reason:
            await refuse(self._send, as_refusal(reason), at)
            return
        await self._send({"type": "websocket.accept"})
        unanswered: Frame | None = None
        try:
            if identity is None:
                unanswered = await first_frame(self._receive)
                identity, unanswered = await first_login(self._send, claim, unanswered), None
            self.identity = identity
            self.board.sockets.add(self)  # not before: a round asks each of them who it is
            await self._sit_down(claim)
        except Exception as reason:
            await say_and_close(self._send, as_refusal(reason), unanswered)
            return
        code = 1006
        try:
            code = await self._read()
        finally:
            await self._leave(is_clean=code in (1000, 1001))

    async def _sit_down(self, claim: Claim) -> None:
        """Subscribe, then read, then speak; what arrives meanwhile is held and comes after."""
        connection = self._row(claim)
        slot = self.board.seat(self)
        try:
            await self.board.join(self, groups.of(self.user))
            arrival, greetings = await door.one_by_one(self._arrive, connection)
            slot.start_after(arrival.last_seq)
            last_seq = slot.last_seq or 0
            replay = await self._replay(last_seq)
            self._say(self._established(claim, arrival, last_seq, replay))
            for answer in (Answer(says=replay.for_user(self.user_id) if replay else ()), *greetings):
                await self._say_all(answer)
        except BaseException:
            await self._leave(is_clean=False)
            raise
        self.release()
        for ear in self._late:
            self._start(self._after(settings.UNDELIVERED_AFTER_SECONDS, ear.greet_late, door.one_by_one))
        logger.info("%s connected as %s", self.connection_id, self.user.role)

    def _row(self, claim: Claim) -> Connection:
        return Connection(
            connection_id=self.connection_id,
            server_id=self.board.server.server_id,
            user=self.user,
            session=self.identity.session,
            role=self.user.role,
            hospital=self.user.hospital_id or "",
            device_id=claim.device_id,
            address=ip_address_of(self.scope),
        )

    def _arrive(self, connection: Connection) -> tuple[actions.Arrival, list[Answer]]:
        """Everything a new socket asks the database, in one go."""
        arrival = actions.arrive(self.board.server, connection, self._snapshot)
        self.connection = connection
        return arrival, [answer for ear in self.ears if (answer := ear.greet())]

    def _snapshot(self) -> dict[str, Any]:
        return {key: value for ear in self.ears for key, value in ear.snapshot().items()}

    async def _replay(self, last_seq: int) -> actions.Replay | None:
        """What came after the cursor in the query, if it has one; what lies before has been delivered."""
        given = query(self.scope)
        since = given.get("since", "")
        if not (since.isascii() and since.isdigit()):
            return None
        cursor = min(int(since[:18]), 2**62)
        return await door.one_by_one(self._catch_up, cursor, given.get("epoch"), last_seq)

    def _catch_up(self, since: int, epoch: str | None, last_seq: int) -> actions.Replay:
        replay = actions.replay_all(self.user, since, epoch, last_seq)
        if replay.recovered:
            for ear in self.ears:
                ear.acknowledged(since)
        return replay

    def _established(
        self, claim: Claim, arrival: actions.Arrival, last_seq: int, replay: actions.Replay | None
    ) -> wire.Event:
        return messages.ConnectionEstablished(
            connection_id=self.connection_id,
            user_id=self.user_id,
            role=self.user.role,
            hospital_id=self.user.hospital_id or claim.hospital_id or None,
            timestamp=timezone.now(),
            epoch=arrival.epoch,
            last_seq=last_seq,
            recovered=bool(replay and replay.recovered),
            heartbeat_interval=settings.HEARTBEAT_INTERVAL_SECONDS,
            limits=messages.Limits(
                max_message_bytes=wire.MAX_MESSAGE_BYTES,
                messages_per_minute=settings.HPLUS_MESSAGES_PER_MINUTE,
            ),
            data=messages.Snapshot(**arrival.snapshot),
        )

    def renew(self, identity: Identity) -> Answer:
        """A fresh token for the same user, perhaps of a new session."""
        self.identity = identity
        if self.connection is not None:
            self.connection.session = identity.session
        return Answer(says=[actions.login_success(identity)])

    async def _leave(self, *, is_clean: bool) -> None:
        """Gone; what was accepted is still answered, for the database if not for the client."""
        self.outbox.close()
        self.board.leave(self)
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        if self.connection is None:
            return
        connection, self.connection = self.connection, None
        try:
            await door.one_by_one(self._depart, connection, is_clean)
        except Exception:
            logger.exception("A departure was not recorded; the duty for ghosts will")

    def _depart(self, connection: Connection, is_clean: bool) -> None:
        for ear in self.ears:
            ear.left()
        actions.depart(connection, is_clean)

    # In

    async def _read(self) -> int:
        """Take frames until the client is gone; the close code."""
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                return int(event.get("code") or 1005)
            self._take(event.get("text"))
            if len(self._inbox) + len(self._urgent) >= INBOX_FRAMES:
                self._room_in_inbox.clear()
                await self._room_in_inbox.wait()

    def _take(self, text: str | None) -> None:
        if self._closing is not None:
            return
        try:
            if text is None:
                raise errors.InvalidMessage(reason="frames are text, not binary")
            frame = wire.parse(text)
        except errors.Refusal as refusal:
            self._refuse_frame(self._out_of_breath() or refusal, {})
            return
        asked = self._request_of(frame)
        is_urgent = asked is not None and asked.always_heard
        if not is_urgent and (breathless := self._out_of_breath()):
            if asked is None or not asked.quiet or breathless.close_code:
                self._refuse_frame(breathless, frame)
            return
        if frame.get("type") == messages.Heartbeat.type:
            self._heartbeat(frame)  # overtakes: it tells that the server lives, not the database
            return
        (self._urgent if is_urgent else self._inbox).append((self.board.loop.time(), frame))
        if self._working is None or self._working.done():
            self._working = asyncio.get_running_loop().create_task(self._work())

    def _heartbeat(self, frame: Frame) -> None:
        try:
            request = messages.Heartbeat.read(frame)
            self._say(actions.heartbeat(request))
            self._acknowledge(request, None)
        except errors.Refusal as refusal:
            self._refuse_frame(refusal, frame)

    async def _work(self) -> None:
        while self._urgent or self._inbox:  # a call for help overtakes what was said before it
            await self._answer(*(self._urgent or self._inbox).popleft())
            if len(self._inbox) + len(self._urgent) < INBOX_FRAMES // 2:
                self._room_in_inbox.set()

    async def _answer(self, came_at: float, frame: Frame) -> None:
        """The one place where a request becomes an answer, and an exception a coded error."""
        quiet, request = False, None
        try:
            ear, handler = self._handler_for(frame)
            quiet = handler.request.quiet
            if handler.request.rate_limited:
                self._spend_credit()
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
                self._refuse_frame(refusal, frame)
        except Exception as unforeseen:
            self._refuse_frame(internal_error(unforeseen), frame)
        finally:
            self.release()

    def _handler_for(self, frame: Frame) -> tuple[DomainConsumer, Handler]:
        word = frame.get("type")
        if not isinstance(word, str) or not word:
            raise errors.InvalidMessage(reason="type is missing", field="type")
        if word not in self._handlers:
            raise errors.UnknownType(field="type")
        return self._handlers[word]

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

    def _request_of(self, frame: Frame) -> type[wire.Request] | None:
        """The class of this frame's word, where somebody here takes it."""
        word = frame.get("type")
        handled = self._handlers.get(word) if isinstance(word, str) else None
        return handled[1].request if handled else None

    def _out_of_breath(self) -> errors.RateLimited | None:
        """Whoever talks without a pause, whatever the words, is refused before anything is done for it."""
        if not settings.HPLUS_MESSAGES_PER_MINUTE:
            return None
        wait_seconds = self.board.breath.of(self.user_id).take()
        if not wait_seconds:
            return None
        self._rate_refusals += 1
        return self._too_fast(wait_seconds, self._rate_refusals)

    def _spend_credit(self) -> None:
        if not settings.HPLUS_MESSAGES_PER_MINUTE:
            return
        wait_seconds = self.board.credits.of(self.user_id).take()
        if not wait_seconds:
            self._rate_refusals = 0
            return
        self._rate_refusals += 1
        raise self._too_fast(wait_seconds, self._rate_refusals)

    @staticmethod
    def _too_fast(wait_seconds: float, refused: int) -> errors.RateLimited:
        is_abuse = refused > ABUSE_FRAMES
        return errors.RateLimited(retry_after=round(wait_seconds, 3), close_code=4101 if is_abuse else None)

    # Out

    async def _reply(self, request: wire.Request, answer: Answer | None) -> None:
        if answer is not None:
            await self._say_all(answer)
        self._acknowledge(request, answer)
        if answer is not None and answer.close_code:
            self._end_soon(answer.close_code)

    def _acknowledge(self, request: wire.Request, answer: Answer | None) -> None:
        if ack := ack_of(request, answer):
            self._say(ack)

    def _refuse_frame(self, refusal: errors.Refusal, frame: Frame) -> None:
        self._say(error_event(refusal, frame))
        if refusal.close_code:
            self._end_soon(refusal.close_code)

    async def _say_all(self, answer: Answer) -> None:
        """A long answer goes out as fast as the client reads; only what it did not ask for piles up."""
        for said in answer.says:
            if not await self.outbox.room():
                self._too_slow()
                return
            if not isinstance(said, Parcel):
                self._say(said)
            elif answer.repeats or not self._comes_by_itself(said):
                self.outbox.put_letter(said, again=answer.repeats)

    def _comes_by_itself(self, letter: Parcel) -> bool:
        """What is still on its way, or held, is not told early: it would overtake those before it."""
        slot = self.board.slots.get(self.user_id)
        is_on_its_way = slot is not None and (letter.seq or 0) > (slot.last_seq or 0)
        return is_on_its_way or any(held.event_id == letter.event_id for held in self._held or ())

    def _say(self, event: wire.Event) -> None:
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

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        """Do this in a thread after a while, if the socket still lives. From any thread."""
        self.board.loop.call_soon_threadsafe(self._start, self._after(seconds, work))

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
            await self._say_all(answer)

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

    async def _end(self, code: int, refusal: errors.Refusal | None, grace_seconds: float) -> None:
        if self._working is not None and refusal is None:
            await asyncio.wait({self._working}, timeout=grace_seconds)
        if refusal is not None:
            self._say(error_event(refusal))
        await self.outbox.drained(grace_seconds)
        self.outbox.is_closed = True
        try:
            await asyncio.wait_for(self._send({"type": "websocket.close", "code": code}), 10)
        except Exception as gone:
            logger.debug("Not closed: %s", type(gone).__name__)
