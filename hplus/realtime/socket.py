"""One live socket: in, out, and how it ends. It carries; what words mean it does not know."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import datetime
from functools import cache
from typing import Any

from django.conf import settings
from django.utils import timezone

from hplus import errors, wire
from hplus.accounts.actions import Claim, Identity
from hplus.accounts.models import User
from hplus.realtime import actions, groups, messages
from hplus.realtime.answers import Answer, Wish
from hplus.realtime.bridge import in_thread
from hplus.realtime.consumers import DomainConsumer, Handler
from hplus.realtime.door import (
    HELD_PER_ADDRESS,
    Scope,
    address,
    claim_of,
    door,
    is_origin_allowed,
    query,
)
from hplus.realtime.limits import BURST, Bucket, Buckets
from hplus.realtime.models import Connection
from hplus.realtime.parcels import Parcel
from hplus.realtime.switchboard import Switchboard
from hplus.rest import internal_error

logger = logging.getLogger(__name__)
Frame = dict[str, Any]
INBOX_FRAMES = 200  # read ahead of the answers; then the client has to wait
REMEMBERED_LETTERS = 5_000
ABUSE_FRAMES = 600  # refused for their rate, one after another


def _bucket() -> Bucket:
    per_minute = settings.HPLUS_MESSAGES_PER_MINUTE
    return Bucket(per_minute / 60, max(BURST, per_minute / 10))


_buckets = Buckets(_bucket)


@cache
def _internal_words() -> frozenset[str]:
    """What our servers tell each other; a socket whose domain does not take it drops it."""
    return frozenset(event.type for event in wire.subclasses(wire.Event) if event.internal)


class Socket:
    """Reads frames in order, answers each through its domain, writes what arrives."""

    def __init__(
        self,
        scope: Scope,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
        hosted: Iterable[type[DomainConsumer]],
    ) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.ears = [consumer(self) for consumer in hosted]
        self.connection_id = wire.new_id()
        self.connection: Connection | None = None
        self.identity: Identity
        self.group_names: set[str] = set()
        self.board: Switchboard
        self._handlers = {h.request.type: (ear, h) for ear in self.ears for h in ear.handlers}
        self._hearing = [ear for ear in self.ears if type(ear).hear is not DomainConsumer.hear]
        self._noting = [ear for ear in self.ears if type(ear).wrote is not DomainConsumer.wrote]
        self._late = [ear for ear in self.ears if type(ear).greet_late is not DomainConsumer.greet_late]
        self._inbox: deque[Frame] = deque()
        self._room_in_inbox = asyncio.Event()
        self._working: asyncio.Task[None] | None = None
        self._outbox: deque[tuple[str, Parcel | None]] = deque()
        self._outbox_bytes = 0
        self._latest: dict[str, str] = {}
        self._writing: asyncio.Task[None] | None = None
        self._held: list[Parcel] | None = []
        self._written: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._rate_refusals = 0
        self._closing: asyncio.Task[None] | None = None
        self._is_closed = False
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
            await self._refuse(refusal, at)
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
        except errors.Refusal as refusal:
            await self._refuse(refusal, at)
            return
        await self._send({"type": "websocket.accept"})
        self.board.sockets.add(self)
        try:
            self.identity = identity or await self._first_login(claim)
            await self._sit_down(claim)
        except errors.Refusal as refusal:
            self.board.sockets.discard(self)
            await self._hold_and_close(refusal)
            return
        code = 1006
        try:
            code = await self._read()
        finally:
            await self._leave(is_clean=code in (1000, 1001))

    async def _refuse(self, refusal: errors.Refusal, at: str) -> None:
        """Accept, say why, and hold the socket a second: the guide's client tries again at once."""
        door.held[at] += 1
        try:
            if door.held[at] > HELD_PER_ADDRESS:
                await asyncio.sleep(settings.REFUSED_SOCKET_SECONDS)
                await self._send({"type": "websocket.close", "code": 4101})
                return
            await self._send({"type": "websocket.accept"})
            await self._hold_and_close(refusal)
        finally:
            door.held[at] -= 1
            if not door.held[at]:
                del door.held[at]

    async def _hold_and_close(self, refusal: errors.Refusal) -> None:
        code = refusal.close_code or (4007 if isinstance(refusal, errors.HospitalNotFound) else 1011)
        await self._send({"type": "websocket.send", "text": error_event(refusal).frame()})
        await asyncio.sleep(settings.REFUSED_SOCKET_SECONDS)
        await self._send({"type": "websocket.close", "code": code})

    async def _first_login(self, claim: Claim) -> Identity:
        """The token comes as the first message, or not at all."""
        try:
            event = await asyncio.wait_for(self._receive(), settings.LOGIN_SECONDS)
        except TimeoutError:
            raise errors.AuthenticationFailed("No login came.") from None
        try:
            frame = wire.parse(event.get("text") or "")
            if frame.get("type") != messages.Login.type:
                raise errors.AuthenticationFailed("The first message must be a login with a token.")
            request = messages.Login.read(frame)
            identity = await in_thread(actions.first_login, claim, request)
        except errors.Refusal as refusal:
            raise errors.AuthenticationFailed(refusal.message, close_code=refusal.close_code) from None
        await self._send({"type": "websocket.send", "text": actions.login_success(identity).frame()})
        return identity

    async def _sit_down(self, claim: Claim) -> None:
        """Subscribe, then read, then speak; what arrives meanwhile is held and comes after."""
        connection = Connection(
            connection_id=self.connection_id,
            server_id=self.board.server.server_id,
            user=self.user,
            session=self.identity.session,
            role=self.user.role,
            hospital=self.user.hospital_id or "",
            device_id=claim.device_id,
            address=address(self.scope) or None,
        )
        slot = self.board.seat(self.user_id)
        slot.sockets.add(self)
        try:
            await self.board.join(self, groups.of(self.user))
            arrival = await in_thread(actions.arrive, self.board.server, connection, self._snapshot)
            self.connection = connection
            slot.start_after(arrival.last_seq)
            last_seq = slot.last_seq or 0
            replay = await self._replay(last_seq)
            self._say(self._established(claim, arrival, last_seq, replay))
            for letter in replay.for_user(self.user_id) if replay else []:
                self._write_letter(letter)
            for answer in await in_thread(self._greetings):
                self._say_all(answer)
        except BaseException:
            await self._leave(is_clean=False)
            raise
        self.release()
        for ear in self._late:
            self.later(settings.UNDELIVERED_AFTER_SECONDS, ear.greet_late)
        logger.info("%s connected as %s", self.connection_id, self.user.role)

    def _snapshot(self) -> dict[str, Any]:
        return {key: value for ear in self.ears for key, value in ear.snapshot().items()}

    def _greetings(self) -> list[Answer]:
        return [answer for ear in self.ears if (answer := ear.greet())]

    async def _replay(self, last_seq: int) -> actions.Replay | None:
        given = query(self.scope)
        if not given.get("since", "").isascii() or not given.get("since", "").isdigit():
            return None
        since = min(int(given["since"][:18]), 2**62)
        return await in_thread(actions.replay, self.user, since, given.get("epoch"), last_seq)

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
        """A fresh token for the same user."""
        self.identity = identity
        return Answer(says=[actions.login_success(identity)])

    async def _leave(self, *, is_clean: bool) -> None:
        self._is_closed = True
        self.board.leave(self)
        for task in (self._writing, *self._tasks):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        if self.connection is None:
            return
        connection, self.connection = self.connection, None
        try:
            await in_thread(self._depart, connection, is_clean)
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
            if len(self._inbox) >= INBOX_FRAMES:
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
            self._refuse_frame(refusal, {})
            return
        if frame.get("type") == messages.Heartbeat.type:  # overtakes: it tells that we live, not the database
            self._heartbeat(frame)
            return
        self._inbox.append(frame)
        if self._working is None or self._working.done():
            self._working = asyncio.get_running_loop().create_task(self._work())

    def _heartbeat(self, frame: Frame) -> None:
        try:
            self._say_all(actions.heartbeat(messages.Heartbeat.read(frame)))
        except errors.Refusal as refusal:
            self._refuse_frame(refusal, frame)

    async def _work(self) -> None:
        while self._inbox:
            await self._answer(self._inbox.popleft())
            if len(self._inbox) < INBOX_FRAMES // 2:
                self._room_in_inbox.set()

    async def _answer(self, frame: Frame) -> None:
        """The one place where a request becomes an answer, and an exception a coded error."""
        quiet = False
        try:
            ear, handler = self._handler_for(frame)
            quiet = handler.request.quiet
            if handler.request.rate_limited:
                self._spend_credit()
            request = handler.request.read(frame)
            if handler.holds:
                self._held = []
            answer = await self._ask(ear, handler, request)
            self._reply(request, answer)
        except errors.Refusal as refusal:
            if not quiet or isinstance(refusal, errors.ValidationFailed):
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

    def _spend_credit(self) -> None:
        if not settings.HPLUS_MESSAGES_PER_MINUTE:
            return
        wait_seconds = _buckets.of(self.user_id).take()
        if not wait_seconds:
            self._rate_refusals = 0
            return
        self._rate_refusals += 1
        refusal = errors.RateLimited(retry_after=round(wait_seconds, 3))
        if self._rate_refusals > ABUSE_FRAMES:
            refusal.close_code = 4101
        raise refusal

    # Out

    def _reply(self, request: wire.Request, answer: Answer | None) -> None:
        if answer is not None:
            self._say_all(answer)
        if request.request_id or request.client_message_id:
            self._say(_ack(request, answer))
        if answer is not None and answer.close_code:
            self._end_soon(answer.close_code)

    def _refuse_frame(self, refusal: errors.Refusal, frame: Frame) -> None:
        self._say(error_event(refusal, frame))
        if refusal.close_code:
            self._end_soon(refusal.close_code)

    def _say_all(self, answer: Answer) -> None:
        for said in answer.says:
            if isinstance(said, Parcel):
                self._write_letter(said, again=isinstance(answer.says[-1], messages.SyncComplete))
            else:
                self._say(said)

    def _say(self, event: wire.Event) -> None:
        self._enqueue(event.frame(), None)

    def hear(self, parcel: Parcel) -> None:
        """Something has arrived for this socket."""
        if self._held is not None:
            self._held.append(parcel)
            return
        if parcel.word == messages.SignedOut.type:
            if parcel.topic != self.connection_id:
                self._end_soon(4005, errors.SessionRevoked())
            return
        for ear in self._hearing:
            heard = ear.hear(parcel)
            if heard is None:
                return
            parcel = heard
        if parcel.word not in _internal_words():
            self._write_letter(parcel)

    def release(self) -> None:
        """What was held comes now, without what has been written meanwhile."""
        held, self._held = self._held, None
        for parcel in held or ():
            self.hear(parcel)

    def _write_letter(self, parcel: Parcel, *, again: bool = False) -> None:
        """On one socket nothing comes twice, unless the client asked for it again."""
        if parcel.event_id:
            key = (parcel.event_id, parcel.word)
            if key in self._written and not again:
                return
            self._written[key] = None
            if len(self._written) > REMEMBERED_LETTERS:
                self._written.popitem(last=False)
        self._enqueue(parcel.frame, parcel)

    def write_latest(self, key: str, said: wire.Event | Parcel) -> None:
        """Something of which only the newest matters: it takes the place of one still waiting."""
        is_waiting = key in self._latest
        self._latest[key] = said.frame if isinstance(said, Parcel) else said.frame()
        if not is_waiting:
            self._enqueue("", Parcel(word="", frame=key))

    def _enqueue(self, text: str, parcel: Parcel | None) -> None:
        if self._is_closed:
            return
        self._outbox.append((text, parcel))
        self._outbox_bytes += len(text)
        if (
            len(self._outbox) > settings.SOCKET_BACKLOG_FRAMES
            or self._outbox_bytes > settings.SOCKET_BACKLOG_BYTES
        ):
            self._too_slow()
        elif self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    def _too_slow(self) -> None:
        """Positions can go; where that is not enough, the client must."""
        kept = [(text, parcel) for text, parcel in self._outbox if text]
        self._latest.clear()
        self._outbox = deque(kept)
        if (
            len(kept) > settings.SOCKET_BACKLOG_FRAMES // 2
            or self._outbox_bytes > settings.SOCKET_BACKLOG_BYTES
        ):
            self._outbox.clear()
            self._outbox_bytes = 0
            self._end_soon(4103, errors.SlowConsumer())

    async def _write(self) -> None:
        while self._outbox:
            text, parcel = self._outbox.popleft()
            self._outbox_bytes -= len(text)
            if not text and parcel is not None:
                text = self._latest.pop(parcel.frame, "")
            if not text:
                continue
            try:
                await self._send({"type": "websocket.send", "text": text})
            except Exception as gone:
                logger.debug("Not written: %s", type(gone).__name__)
                return
            if parcel is not None and parcel.event_id:
                for ear in self._noting:
                    ear.wrote(parcel)

    # The end

    async def expel(self, refusal: errors.Refusal) -> None:
        """The server ends this socket, and says why."""
        self._end_soon(refusal.close_code or 1011, refusal)

    async def finish(self, code: int, grace_seconds: float) -> None:
        """Answer what has been accepted, then close."""
        self._end_soon(code, grace_seconds=grace_seconds)
        if self._closing is not None:
            await self._closing

    def _end_soon(self, code: int, refusal: errors.Refusal | None = None, grace_seconds: float = 5) -> None:
        if self._closing is None and not self._is_closed:
            self._closing = asyncio.get_running_loop().create_task(self._end(code, refusal, grace_seconds))

    async def _end(self, code: int, refusal: errors.Refusal | None, grace_seconds: float) -> None:
        working = self._working if self._working is not asyncio.current_task() else None
        if working is not None and refusal is None:
            await asyncio.wait({working}, timeout=grace_seconds)
        if refusal is not None:
            self._say(error_event(refusal))
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=grace_seconds)
        self._is_closed = True
        try:
            await asyncio.wait_for(self._send({"type": "websocket.close", "code": code}), 10)
        except Exception as gone:
            logger.debug("Not closed: %s", type(gone).__name__)

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        """Do this in a thread after a while, if the socket still lives. From any thread."""
        self.board.loop.call_soon_threadsafe(self._start, self._after(seconds, work))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        if self._is_closed:
            work.close()
            return
        task = self.board.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _after(self, seconds: float, work: Callable[[], object]) -> None:
        await asyncio.sleep(seconds)
        try:
            answer = await in_thread(work)
        except Exception as unforeseen:
            internal_error(unforeseen)
            return
        if isinstance(answer, Answer):
            self._say_all(answer)


def error_event(refusal: errors.Refusal, frame: Frame | None = None) -> messages.Error:
    """The refusal as the client reads it."""
    asked, request_id = (frame or {}).get("type"), (frame or {}).get("requestId")
    return messages.Error(
        code=refusal.code,
        message=refusal.message,
        request_type=asked[:100] if isinstance(asked, str) else None,
        request_id=request_id[:150] if isinstance(request_id, str) else None,
        details=refusal.details,
        timestamp=timezone.now(),
        retry_after=refusal.retry_after,
    )


def _ack(request: wire.Request, answer: Answer | None) -> messages.Ack:
    return messages.Ack(
        request_type=request.type,
        request_id=request.request_id,
        client_message_id=request.client_message_id,
        status="duplicate" if answer and answer.is_duplicate else "ok",
        data=answer.made if answer else None,
    )
