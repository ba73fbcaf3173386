"""The life of one connection: accept, greet, run, leave."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.conf import settings
from django.utils import timezone

from hplus import errors
from hplus.accounts.actions import Claim, Identity
from hplus.api.answers import as_refusal
from hplus.protocol import wire
from hplus.realtime import groups, messages
from hplus.realtime.actions import Result
from hplus.realtime.connection.admission import (
    Admission,
    Scope,
    address,
    admission,
    claim_of,
    ip_address_of,
    is_origin_allowed,
    query,
)
from hplus.realtime.connection.client import Client, MakeConsumer
from hplus.realtime.connection.coming_and_going import (
    Arrival,
    Leaver,
    Newcomer,
    arrive_all,
    leave_all,
    settle_all,
)
from hplus.realtime.connection.handlers import Consumer
from hplus.realtime.connection.handshake import (
    Frame,
    first_frame,
    first_login,
    refuse,
    send_error_and_close,
)
from hplus.realtime.connection.transport import Receive, Send, transport_of
from hplus.realtime.hub.departures import Departure
from hplus.realtime.hub.hub import Hub
from hplus.realtime.models import Connection
from hplus.realtime.publishing.replay import Cursor

logger = logging.getLogger(__name__)
CLEAN = (1000, 1001)  # close codes after which a user is offline at once


class ConnectionLifecycle:
    """One client, from the handshake to the departure; in this process, or in the one of `hub`."""

    client: Client  # once it is known whose it is

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        hosted: Iterable[MakeConsumer],
        *,
        hub: Hub | None = None,
        admission: Admission = admission,
    ) -> None:
        self._scope, self._receive, self._send, self._hosted = scope, receive, send, hosted
        self._hub, self._admission = hub, admission

    # Accept

    async def accept(self) -> None:
        """Serve the connection until it has ended."""
        await self._receive()
        if not is_origin_allowed(self._scope):
            await self._send({"type": "websocket.close", "code": 4003})
            return
        at = address(self._scope)
        try:
            self._admission.admit(at)
        except errors.Refusal as refusal:
            await refuse(self._send, refusal, at)
            return
        is_handed_over = False
        try:
            is_handed_over = await self._identify(at)
        finally:
            if not is_handed_over:
                self._admission.release(at)

    async def _identify(self, at: str) -> bool:
        """Returns whether the connection goes on without this coroutine."""
        hub = self._hub or Hub.of_this_process()
        if hub.is_draining:
            await self._send({"type": "websocket.close", "code": 1012})
            return False
        shown = ""
        try:
            claim = claim_of(self._scope)
            shown = claim.shown
            identity = await self._admission.identify(claim)
        except Exception as reason:
            await refuse(self._send, as_refusal(reason), at, shown)
            return False
        await self._send({"type": "websocket.accept"})
        return await self._is_registered(hub, claim, identity) and await self._run(at)

    async def _is_registered(self, hub: Hub, claim: Claim, identity: Identity | None) -> bool:
        """Whether the client is registered and greeted now; else it has been sent the reason."""
        unanswered: Frame | None = None
        try:
            if identity is None:
                unanswered = await self._first_frame()
                identity, unanswered = await first_login(self._send, claim, unanswered), None
            transport = transport_of(self._scope, self._receive, self._send)
            self.client = Client(hub, identity, transport, self._hosted)
            await self._greet(claim)
        except Exception as reason:
            await send_error_and_close(self._send, as_refusal(reason), unanswered)
            return False
        return True

    async def _first_frame(self) -> Frame:
        with self._admission.awaited_login(address(self._scope)):
            return await first_frame(self._receive)

    # Run

    async def _run(self, at: str) -> bool:
        """Returns whether the connection goes on without this coroutine, which costs more than the rest of
        an idle connection."""
        if self.client.transport.hand_over(OpenConnection(self.client, self._admission, at).on_end):
            return True
        code = 1006
        try:
            code = await self.client.transport.run()
        finally:
            await leave(self.client, self._admission, is_clean=code in CLEAN)
        return False

    # Greet

    async def _greet(self, claim: Claim) -> None:
        """Subscribe, then read, then write; what arrives meanwhile is buffered and comes after."""
        client = self.client
        stream = client.hub.add(client)
        try:
            await client.hub.join(client, groups.of(client.user))
            newcomer = Newcomer(client, self._row(claim), self._cursor())
            arrival: Arrival = await self._admission.batch(arrive_all).submit(newcomer)
            stream.start_after(arrival.registered.last_seq)
            # What comes after either place comes live, or is buffered by now.
            last_seq = min(arrival.registered.last_seq, stream.last_seq or 0)
            is_behind = arrival.replay is not None and arrival.replay.has_more
            client.start_after(arrival.since if is_behind else last_seq, arrival.since)
            client.send_event(self._established(claim, arrival, max(last_seq, arrival.since)))
            if is_behind:
                client.start_replay(arrival.since, arrival.registered.last_seq)
            missed = Result(events=arrival.replay.for_user(client.user_id) if arrival.replay else ())
            for result in (missed, *arrival.results):
                await client.send_result(result)
        except BaseException:
            await leave(self.client, self._admission, is_clean=False)
            raise
        client.release()
        for consumer in arrival.settling:
            self._settle_later(consumer)
        logger.info("%s connected as %s", client.connection_id, client.user.role)

    def _settle_later(self, consumer: Consumer) -> None:
        self.client.later(settings.UNDELIVERED_AFTER_SECONDS, consumer, self._settle)

    async def _settle(self, consumer: Consumer) -> Result | None:
        """Ask a domain what the connection gets now, or later where something is under way there."""
        if not consumer.is_settled():
            self._settle_later(consumer)
            return None
        result: Result | None = await self._admission.batch(settle_all).submit(consumer)
        return result

    def _row(self, claim: Claim) -> Connection:
        user = self.client.user
        return Connection(
            connection_id=self.client.connection_id,
            server_id=self.client.hub.server.server_id,
            user=user,
            session=self.client.identity.session,
            role=user.role,
            hospital=user.hospital_id or "",
            rights_version=user.rights_version,
            device_id=claim.device_id,
            address=ip_address_of(self._scope),
        )

    def _cursor(self) -> Cursor | None:
        """Return the cursor in the query, if it has one."""
        given = query(self._scope)
        since = given.get("since", "")
        if not (since.isascii() and since.isdigit()):
            return None
        return Cursor(min(int(since[:18]), 2**62), given.get("epoch"))

    def _established(self, claim: Claim, arrival: Arrival, last_seq: int) -> wire.Event:
        user = self.client.user
        return messages.ConnectionEstablished(
            connection_id=self.client.connection_id,
            user_id=user.user_id,
            role=user.role,
            hospital_id=user.hospital_id or claim.hospital_id or None,
            timestamp=timezone.now(),
            epoch=arrival.registered.epoch,
            last_seq=last_seq,
            recovered=arrival.is_recovered,
            heartbeat_interval=settings.HEARTBEAT_INTERVAL_SECONDS,
            limits=messages.Limits(
                max_message_bytes=wire.MAX_MESSAGE_BYTES,
                max_message_characters=wire.MAX_TEXT_CHARACTERS,
                messages_per_minute=settings.HPLUS_MESSAGES_PER_MINUTE,
            ),
            data=messages.Snapshot(**arrival.snapshot),
        )


async def leave(client: Client, admission: Admission, *, is_clean: bool) -> None:
    """The client has gone; what was accepted is still done, for the database if not for the client."""
    client.stop_writing()
    client.hub.leave(client)
    connection, client.connection = client.connection, None
    if connection is None:
        return
    try:
        leaver = Leaver(client.consumers, Departure(connection, is_clean))
        await admission.batch(leave_all).submit(leaver)
    except Exception:
        logger.exception("A departure was not recorded; reconciliation will")


class OpenConnection:
    """All that is kept of a handshake while its connection is open on a direct line."""

    __slots__ = ("_address", "_admission", "_client")

    def __init__(self, client: Client, admission: Admission, at: str) -> None:
        self._client, self._admission, self._address = client, admission, at

    def on_end(self, code: int) -> None:
        """The client has gone, with this close code."""
        self._client.hub.depart(self._leave(code))

    async def _leave(self, code: int) -> None:
        try:
            await leave(self._client, self._admission, is_clean=code in CLEAN)
        finally:
            self._admission.release(self._address)
