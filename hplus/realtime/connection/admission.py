"""Admission: who connects, from where, and how many connections one address may hold."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.http import parse_cookie
from django.http.request import validate_host

from hplus import errors
from hplus.accounts import actions
from hplus.accounts.actions import Claim, Identity
from hplus.api.claims import Shares
from hplus.operations.cut_connections import note_cut
from hplus.operations.metrics import is_loopback
from hplus.protocol import wire
from hplus.realtime.connection.admission_batch import AdmissionBatch
from hplus.realtime.execution import prepared
from hplus.realtime.execution.db_threads import Deadline, T, in_admission_thread

Scope = dict[str, Any]
REMEMBERED_SECONDS = 2.0  # a client without backoff repeats itself thousands of times a second
# Refused connections that are still sent their error, in this process. A hospital may have one address, where
# a device that keeps failing leaves room for the errors of the others.
HELD_OF_ONE_CLAIM, HELD_OF_AN_ADDRESS = 20, 1_000


def header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def ip_address_of(scope: Scope) -> str | None:
    """Return the client's address where it is one; what a proxy puts there may be anything."""
    try:
        return str(ipaddress.ip_address(address(scope).partition("%")[0]))
    except ValueError:
        return None


def query(scope: Scope) -> dict[str, str]:
    """Return the query's values, percent-decoded; the first where a name comes twice."""
    try:
        pairs = parse_qs(scope["query_string"].decode("ascii"), errors="strict")
    except ValueError:
        raise errors.AuthenticationFailed("The query is not percent-encoded UTF-8.") from None
    if not wire.is_storable(pairs):
        raise errors.AuthenticationFailed("The query contains NUL.")
    return {name: values[0] for name, values in pairs.items()}


def claim_of(scope: Scope) -> Claim:
    """Who the handshake says it is; a token in the header goes before one in the query.

    Raises AuthenticationFailed, also where TLS is required and there is none.
    """
    _must_be_encrypted(scope)
    given = {name: value.strip() for name, value in query(scope).items()}
    scheme, _, bearer = header(scope, b"authorization").partition(" ")
    says_who = given.get("userId") or given.get("token") or bearer
    return Claim(
        user_id=given.get("userId", ""),
        role=given.get("role", ""),
        hospital_id=given.get("hospitalId", ""),
        department=given.get("department", ""),
        specialization=given.get("specialization", ""),
        token=bearer.strip() if scheme.lower() == "bearer" else given.get("token", ""),
        device_id=given.get("deviceId", "")[:150],
        admin_session_key="" if says_who else admin_session_key_of(scope),
    )


def _must_be_encrypted(scope: Scope) -> None:
    """The scheme is that of the connection, or what a proxy of FORWARDED_ALLOW_IPS says of its own.

    What a process of this machine sends itself passes no network.
    """
    is_encrypted = scope.get("scheme") in ("wss", "https")
    if settings.HPLUS_REQUIRE_TLS and not is_encrypted and not _is_from_this_machine(scope):
        raise errors.AuthenticationFailed("HPlus is reached by wss:// only.")


def _is_from_this_machine(scope: Scope) -> bool:
    is_proxied = any(header(scope, name) for name in (b"x-forwarded-for", b"x-forwarded-proto", b"forwarded"))
    return is_loopback(address(scope)) and not is_proxied


def admin_session_key_of(scope: Scope) -> str:
    """Return the cookie of the admin site, but only from a page of this very host.

    A browser sends cookies along whichever page opens the socket, so another site could speak in
    the name of whoever reads it. The Origin tells them apart, and no page can forge it: without
    one, with another host's, port's or scheme's, the cookie counts for nothing.
    """
    page = urlsplit(header(scope, b"origin"))
    schemes = ("https",) if settings.SESSION_COOKIE_SECURE else ("https", "http")
    if page.scheme not in schemes or page.netloc.lower() != header(scope, b"host").lower():
        return ""
    return parse_cookie(header(scope, b"cookie")).get(settings.SESSION_COOKIE_NAME, "")


def is_origin_allowed(scope: Scope) -> bool:
    """A phone sends no Origin. A page must come from this host or from one of ALLOWED_HOSTS."""
    origin = header(scope, b"origin")
    if not origin:
        return True
    try:
        page = urlsplit(origin)
        page_host, is_own = page.hostname or "", page.netloc.lower() == header(scope, b"host").lower()
    except ValueError:
        return False
    named = [host for host in settings.ALLOWED_HOSTS if host != "*"]
    # A name that is not ours may lead here all the same (DNS rebinding): the same host is not enough.
    return validate_host(page_host, settings.ALLOWED_HOSTS if is_own else named)


def _identify_all(claims: list[Claim]) -> list[Identity | Exception | None]:
    return actions.identify_all(claims, prepared.statements.fetch if prepared.is_available() else None)


class Admission:
    """Arrivals and departures of one process, and what it remembers of the clients it refused."""

    def __init__(self) -> None:
        self._start()
        self.held = Shares(HELD_OF_AN_ADDRESS, HELD_OF_ONE_CLAIM)  # refused connections that are held open
        self.open_connections: Counter[str] = Counter()
        self._logins, self._login_count = Counter[str](), 0  # connections that have yet to send a login
        self._refused: OrderedDict[Claim, tuple[float, errors.Refusal]] = OrderedDict()

    def _start(self) -> None:
        self._threads, self._deadline = asyncio.Semaphore(settings.ADMISSION_THREADS), Deadline()
        self._batches: dict[Callable[..., Any], AdmissionBatch[Any]] = {}

    async def identify(self, claim: Claim) -> Identity | None:
        """Like `accounts.identify`; asks the database once for a claim that keeps being refused."""
        actions.check_claim(claim)
        at, refusal = self._refused.get(claim, (0.0, None))
        if refusal and time.monotonic() - at < REMEMBERED_SECONDS:
            raise refusal
        try:
            identity: Identity | None = await self.batch(_identify_all).submit(claim)
            return identity
        except errors.InternalError:
            raise
        except errors.Refusal as refused:
            self._remember(claim, refused)
            raise

    def batch(self, action: Callable[[list[Any]], list[Any]]) -> AdmissionBatch[Any]:
        """Return the one queue in front of an action that takes all who wait at the admission."""
        if action not in self._batches:
            self._batches[action] = AdmissionBatch(action)
        return self._batches[action]

    async def run_queued(self, action: Callable[..., T], *args: Any) -> T:
        """Run an action at the admission. Raises InternalError where the database is away.

        At most ADMISSION_THREADS at once; those waiting never time out. After a restart all clients
        reconnect together, and a refused one would only try again.
        """
        came_at = asyncio.get_running_loop().time()
        async with self._threads:
            return await self._deadline.run(came_at, in_admission_thread, action, *args)

    def reset(self) -> None:
        """A server that starts has refused nobody yet, and nobody waits."""
        self._refused.clear()
        self._start()

    def _remember(self, claim: Claim, refusal: errors.Refusal) -> None:
        self._refused[claim] = (time.monotonic(), refusal)
        if len(self._refused) > 10_000:
            self._refused.popitem(last=False)

    def admit(self, at: str) -> None:
        """Count a connection. Raises TooManyConnections where this address holds as many as it may."""
        most = settings.HPLUS_MAX_SOCKETS_PER_IP
        if most and self.open_connections[at] >= most:
            raise errors.TooManyConnections()
        self.open_connections[at] += 1

    def release(self, at: str) -> None:
        self.open_connections[at] -= 1
        if self.open_connections[at] <= 0:
            del self.open_connections[at]

    @contextmanager
    def awaited_login(self, at: str) -> Iterator[None]:
        """Count a connection while its login is awaited. Raises TooManyConnections where too many are."""
        is_full = self._logins[at] >= settings.LOGINS_PER_ADDRESS or self._login_count >= settings.LOGINS
        if is_full:
            note_cut("too many connections without a login", at)
            raise errors.TooManyConnections()
        self._logins[at] += 1
        self._login_count += 1
        try:
            yield
        finally:
            self._login_count -= 1
            self._logins[at] -= 1
            if not self._logins[at]:
                del self._logins[at]


admission = Admission()
