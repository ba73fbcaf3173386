"""The visit of one client: how it comes in, what it is told first, and how it leaves."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils import timezone

from hplus import errors, wire
from hplus.accounts.actions import Claim, Identity
from hplus.realtime import groups, messages, presence
from hplus.realtime.answers import Answer
from hplus.realtime.catching_up import Replay, replay_all
from hplus.realtime.door import Scope, address, claim_of, door, ip_address_of, is_origin_allowed, query
from hplus.realtime.handshake import Frame, Receive, Send, first_frame, first_login, refuse, say_and_close
from hplus.realtime.models import Connection
from hplus.realtime.socket import Socket
from hplus.realtime.switchboard import Switchboard
from hplus.rest import as_refusal

if TYPE_CHECKING:
    from hplus.realtime.consumers import DomainConsumer

logger = logging.getLogger(__name__)


class Visit:
    """One client, from the handshake to the departure."""

    socket: Socket  # once it is known who comes

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, hosted: Iterable[type[DomainConsumer]]
    ) -> None:
        self._scope, self._receive, self._send, self._hosted = scope, receive, send, hosted

    # Coming in

    async def take_place(self) -> None:
        await self._receive()
        if not is_origin_allowed(self._scope):
            await self._send({"type": "websocket.close", "code": 4003})
            return
        at = address(self._scope)
        try:
            door.let_in(at)
        except errors.Refusal as refusal:
            await refuse(self._send, refusal, at)
            return
        try:
            await self._come_in(at)
        finally:
            door.let_out(at)

    async def _come_in(self, at: str) -> None:
        board = await Switchboard.of_this_process()
        if board.is_draining:
            await self._send({"type": "websocket.close", "code": 1012})
            return
        try:
            claim = claim_of(self._scope)
            identity = await door.identify(claim)
        except Exception as reason:
            await refuse(self._send, as_refusal(reason), at)
            return
        await self._send({"type": "websocket.accept"})
        if await self._is_welcome(board, claim, identity):
            await self._stay()

    async def _is_welcome(self, board: Switchboard, claim: Claim, identity: Identity | None) -> bool:
        """Whether it has a seat now; else it has been told why not."""
        unanswered: Frame | None = None
        try:
            if identity is None:
                unanswered = await first_frame(self._receive)
                identity, unanswered = await first_login(self._send, claim, unanswered), None
            self.socket = Socket(board, identity, self._send, self._hosted)
            await self._sit_down(claim)
        except Exception as reason:
            await say_and_close(self._send, as_refusal(reason), unanswered)
            return False
        return True

    async def _stay(self) -> None:
        code = 1006
        try:
            code = await self.socket.intake.read(self._receive)
        finally:
            await self._leave(is_clean=code in (1000, 1001))

    # What it is told first

    async def _sit_down(self, claim: Claim) -> None:
        """Subscribe, then read, then speak; what arrives meanwhile is held and comes after."""
        socket = self.socket
        slot = socket.board.seat(socket)
        try:
            await socket.board.join(socket, groups.of(socket.user))
            arrival, greetings = await door.one_by_one(self._arrive, self._row(claim))
            slot.start_after(arrival.last_seq)
            last_seq = slot.last_seq or 0
            replay = await self._replay(last_seq)
            socket.say(self._established(claim, arrival, last_seq, replay))
            for answer in (Answer(says=replay.for_user(socket.user_id) if replay else ()), *greetings):
                await socket.say_all(answer)
        except BaseException:
            await self._leave(is_clean=False)
            raise
        socket.release()
        for ear in socket.ears:
            if ear.overrides("greet_late"):
                socket.later(settings.UNDELIVERED_AFTER_SECONDS, ear.greet_late, door.one_by_one)
        logger.info("%s connected as %s", socket.connection_id, socket.user.role)

    def _row(self, claim: Claim) -> Connection:
        user = self.socket.user
        return Connection(
            connection_id=self.socket.connection_id,
            server_id=self.socket.board.server.server_id,
            user=user,
            session=self.socket.identity.session,
            role=user.role,
            hospital=user.hospital_id or "",
            device_id=claim.device_id,
            address=ip_address_of(self._scope),
        )

    def _arrive(self, connection: Connection) -> tuple[presence.Arrival, list[Answer]]:
        """Everything a new socket asks the database, in one go."""
        arrival = presence.arrive(self.socket.board.server, connection, self._snapshot)
        self.socket.connection = connection
        return arrival, [answer for ear in self.socket.ears if (answer := ear.greet())]

    def _snapshot(self) -> dict[str, Any]:
        return {key: value for ear in self.socket.ears for key, value in ear.snapshot().items()}

    async def _replay(self, last_seq: int) -> Replay | None:
        """What came after the cursor in the query, if it has one; what lies before has been delivered."""
        given = query(self._scope)
        since = given.get("since", "")
        if not (since.isascii() and since.isdigit()):
            return None
        cursor = min(int(since[:18]), 2**62)
        return await door.one_by_one(self._catch_up, cursor, given.get("epoch"), last_seq)

    def _catch_up(self, since: int, epoch: str | None, last_seq: int) -> Replay:
        replay = replay_all(self.socket.user, since, epoch, last_seq)
        if replay.recovered:
            for ear in self.socket.ears:
                ear.acknowledged(since)
        return replay

    def _established(
        self, claim: Claim, arrival: presence.Arrival, last_seq: int, replay: Replay | None
    ) -> wire.Event:
        user = self.socket.user
        return messages.ConnectionEstablished(
            connection_id=self.socket.connection_id,
            user_id=user.user_id,
            role=user.role,
            hospital_id=user.hospital_id or claim.hospital_id or None,
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

    # Leaving

    async def _leave(self, *, is_clean: bool) -> None:
        """Gone; what was accepted is still answered, for the database if not for the client."""
        self.socket.fall_silent()
        self.socket.board.leave(self.socket)
        connection, self.socket.connection = self.socket.connection, None
        if connection is None:
            return
        try:
            await door.one_by_one(self._depart, connection, is_clean)
        except Exception:
            logger.exception("A departure was not recorded; the duty for ghosts will")

    def _depart(self, connection: Connection, is_clean: bool) -> None:
        for ear in self.socket.ears:
            ear.left()
        presence.depart(connection, is_clean)
