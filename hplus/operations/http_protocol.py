"""uvicorn's HTTP protocol, with time limits for clients that do not finish their requests."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from ipaddress import ip_address, ip_network

import h11
from django.conf import settings
from uvicorn.protocols.http.h11_impl import H11Protocol

from hplus.operations import descriptors
from hplus.operations.awaited_requests import awaited_requests_of
from hplus.operations.cut_connections import note_cut
from hplus.operations.websocket_protocol import WebSocketProtocol
from hplus.realtime.connection.transport import CLOSE_SECONDS

TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_AWAITED = {h11.IDLE: "request", h11.SEND_BODY: "body"}  # by the client's state


@lru_cache(maxsize=1000)
def is_proxy(address: str, trusted: str) -> bool:
    """Whether this is one of the proxies whose X-Forwarded-For is trusted: then many share the address."""
    return trusted == "*" or any(_is_within(address, each.strip()) for each in trusted.split(","))


def _is_within(address: str, trusted: str) -> bool:
    try:
        return ip_address(address) in ip_network(trusted, strict=False)
    except ValueError:  # the path of a socket
        return address == trusted


class HttpProtocol(H11Protocol):
    """uvicorn's own, which would wait for ever for the rest of a request, and would lose frames that arrive
    in one piece with the handshake."""

    _awaits = ""  # what the client has yet to send: `request`, `body`, or nothing
    _received = 0  # bytes since that is awaited
    _deadline: asyncio.TimerHandle | None = None
    _is_upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await("request")
        if len(self.connections) > descriptors.most_connections():
            awaited_requests_of(self.loop).cut_one("file descriptors are scarce")

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        if not self._is_upgraded and not self.transport.is_closing():
            awaits = _AWAITED.get(self.conn.their_state, "")
            if awaits != self._awaits:
                self._await(awaits)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        has_next, _ = self.conn.trailing_data
        if has_next and not self._is_upgraded and not self.transport.is_closing():
            self._await("request")  # its beginning came before the response

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._is_upgraded = True
        self._await("")
        super().handle_websocket_upgrade(event)
        early, _ = self.conn.trailing_data
        protocol = self.transport.get_protocol()
        if early and isinstance(protocol, WebSocketProtocol) and not self.transport.is_closing():
            protocol.data_received(early)

    def connection_lost(self, exc: Exception | None) -> None:
        self._await("")
        super().connection_lost(exc)

    # What is awaited

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def _await(self, what: str) -> None:
        """Give the client so long for the rest of its request, or of its body."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._awaits, self._received, self._deadline = what, 0, None
        if not what:
            awaited_requests_of(self.loop).discard(self)
            return
        is_shared = is_proxy(self._address, str(self.config.forwarded_allow_ips))
        awaited_requests_of(self.loop).add(self, "" if is_shared else self._address)
        seconds = settings.REQUEST_SECONDS if what == "request" else settings.BODY_SECONDS
        self._deadline = self.loop.call_later(seconds, self._on_deadline)

    def _on_deadline(self) -> None:
        is_body = self._awaits == "body"
        if is_body and (self.flow.read_paused or self._received >= settings.BODY_BYTES):
            self._await("body")
        else:
            self.cut(f"no whole {self._awaits} in time")

    def cut(self, reason: str) -> None:
        """End the connection; who has begun a request and got no answer is told why."""
        note_cut(reason, self._address)
        has_begun = self._received > 0 or self._awaits == "body"
        is_answered = self.cycle is not None and self.cycle.response_started and self._awaits == "body"
        self._await("")
        if has_begun and not is_answered:
            self.transport.write(TIMED_OUT)
        self.transport.close()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)
