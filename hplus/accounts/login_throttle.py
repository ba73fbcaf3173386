"""Login throttle: what guessing passwords costs, for the API and the admin site alike.

Failures are counted by account, by device that the account knows, by address and by network, each count in a
row that all servers share. An account's failures make its next attempt wait longer and longer; a device on
which the person has signed in before waits for its own failures only, so nobody locks a colleague out.
Addresses and networks have a budget, which a known device does not need. An attempt is counted before its
password is hashed and given back if it was right, so a hundred at once count as a hundred.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core import signing
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.deprecation import MiddlewareMixin
from prometheus_client import Counter
from unfold.forms import AuthenticationForm

from hplus import errors
from hplus.accounts.models import FailedSignIns, Session, User
from hplus.audit.actions import record
from hplus.audit.models import Verb
from hplus.portions import delete_in_portions
from hplus.protocol.wire import is_storable

FREE_FAILURES = 5  # of an account or a device, before it must wait
FORGOTTEN_SECONDS = 900.0  # after which one failure of an account or a device is forgotten
MOST_WAIT_SECONDS = 900.0
LOCKED_OUT_SECONDS = 60.0  # a wait as long as this is written to the audit as a lock-out
KNOWN_DAYS = 90  # a device on which nobody signed in for as long is unknown again

sign_ins = Counter("hplus_sign_ins_total", "Attempts to sign in", ["outcome"])
lockouts = Counter("hplus_sign_in_lockouts_total", "Waits of a minute or more that began", ["of"])


@dataclass(frozen=True)
class Rule:
    """How one count grows into a wait: doubling from FREE_FAILURES on, or as a budget of `burst` failures."""

    name: str
    per_failure_seconds: float  # in which one failure is forgotten
    burst: int
    doubles: bool = False

    def level(self, count: FailedSignIns, now: datetime) -> float:
        """Return how many failures count now."""
        return max(0.0, count.level - (now - count.at).total_seconds() / self.per_failure_seconds)

    def wait_seconds(self, count: FailedSignIns, now: datetime) -> float:
        """Return how long the next attempt must wait."""
        if self.doubles:
            return max(0.0, self.pause_seconds(count.level) - (now - count.at).total_seconds())
        return max(0.0, (self.level(count, now) + 1 - self.burst) * self.per_failure_seconds)

    def pause_seconds(self, level: float) -> float:
        """Return the wait after as many failures: 1, 2, 4 … seconds up to MOST_WAIT_SECONDS."""
        excess = int(level + 1e-6) - self.burst
        return 0.0 if excess < 0 else min(MOST_WAIT_SECONDS, 2.0 ** min(excess, 30))


ACCOUNT = Rule("account", FORGOTTEN_SECONDS, FREE_FAILURES, doubles=True)
DEVICE = Rule("device", FORGOTTEN_SECONDS, FREE_FAILURES, doubles=True)
# A hospital signs in behind one address; one in ten mistypes.
ADDRESS = Rule("address", 20.0, 30)
NETWORK = Rule("network", 10.0, 60)


@dataclass(frozen=True)
class Attempt:
    """One attempt to sign in, which is counted as a failure until it has succeeded."""

    user_id: str
    address: str
    where: str
    is_known_device: bool
    keys: Sequence[tuple[Rule, str]]


def begin(request: HttpRequest, user_id: str, device_id: str = "") -> Attempt:
    """Count an attempt. Raises RateLimited where the account, the address or the network must wait."""
    attempt = _attempt(request, user_id, device_id)
    wait = _count(attempt)
    if wait > 0:
        sign_ins.labels("refused").inc()
        raise errors.RateLimited("Too many attempts.", retry_after=round(max(1.0, wait), 1))
    return attempt


def _attempt(request: HttpRequest, user_id: str, device_id: str) -> Attempt:
    address = request.META.get("REMOTE_ADDR", "")
    device = _known_device(request, user_id, device_id)
    if device:
        keys = [(DEVICE, _key("device", user_id, device))]
    else:
        keys = [(ACCOUNT, _key("account", user_id)), *_places(address)]
    where = "API" if request.path_info.startswith("/api/") else "admin site"
    return Attempt(user_id, address, where, bool(device), keys)


def _places(address: str) -> list[tuple[Rule, str]]:
    """The address and its network: /24 of IPv4; of IPv6 the /64, which one household has."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return []
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.version == 6:
        return [(ADDRESS, _key("network", str(ipaddress.ip_network(f"{ip}/64", strict=False))))]
    network = ipaddress.ip_network(f"{ip}/24", strict=False)
    return [(ADDRESS, _key("address", str(ip))), (NETWORK, _key("network", str(network)))]


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


@transaction.atomic
def _count(attempt: Attempt) -> float:
    """Count a failure under all keys, or return the longest wait where there is one."""
    now = timezone.now()
    rows = _locked([key for _, key in attempt.keys], now)
    waits = [rule.wait_seconds(rows[key], now) for rule, key in attempt.keys]
    if max(waits, default=0) > 0:
        return max(waits)
    for rule, key in attempt.keys:
        rows[key].level, rows[key].at = rule.level(rows[key], now) + 1, now
        rows[key].save(update_fields=["level", "at"])
    return 0.0


def _locked(keys: list[str], now: datetime) -> dict[str, FailedSignIns]:
    """The rows of these keys, locked in the order of the keys; missing ones are made."""
    FailedSignIns.objects.bulk_create(
        [FailedSignIns(key=key, at=now) for key in sorted(keys)], ignore_conflicts=True
    )
    found = FailedSignIns.objects.select_for_update().filter(key__in=keys).order_by("key")
    return {row.key: row for row in found}


@transaction.atomic
def succeed(attempt: Attempt) -> None:
    """Forget the failures of the account or the device; the address and the network are as before."""
    now = timezone.now()
    rows = _locked([key for _, key in attempt.keys], now)
    for rule, key in attempt.keys:
        rows[key].level = 0.0 if rule.doubles else max(0.0, rows[key].level - 1)
        rows[key].save(update_fields=["level"])
    sign_ins.labels("ok").inc()


@transaction.atomic
def fail(attempt: Attempt) -> None:
    """Record the failure in the audit, and a lock-out where it is what began one."""
    sign_ins.labels("failed").inc()
    user = User.objects.with_id(attempt.user_id).first()
    # An unknown userId may be a password typed into the wrong field, so it is not written down.
    common = {"where": attempt.where, "address": attempt.address, "is_known_device": attempt.is_known_device}
    record(None, Verb.LOGIN_FAILED, user, **common)
    counts = FailedSignIns.objects.in_bulk([key for _, key in attempt.keys])
    for rule, key in attempt.keys:
        seconds = rule.wait_seconds(counts[key], timezone.now()) if key in counts else 0.0
        if seconds >= LOCKED_OUT_SECONDS or (seconds > 0 and not rule.doubles):
            lockouts.labels(rule.name).inc()
            record(None, Verb.LOCKOUT, user, **common, of=rule.name, seconds=round(seconds))


def delete_forgotten() -> int:
    """Delete counts that are over. Returns how many."""
    longest = max(rule.burst * rule.per_failure_seconds for rule in (ACCOUNT, DEVICE, ADDRESS, NETWORK))
    oldest = timezone.now() - timedelta(seconds=longest + 30 * FORGOTTEN_SECONDS)
    return delete_in_portions(FailedSignIns.objects.filter(at__lt=oldest).order_by("at"))


# Known devices


def _known_device(request: HttpRequest, user_id: str, device_id: str) -> str:
    """Return the name of a device on which this person has signed in before; blank for any other."""
    if device_id and _has_session_on(user_id, device_id):
        return f"app {device_id}"
    return _device_of_cookie(request, user_id)


def _has_session_on(user_id: str, device_id: str) -> bool:
    if not is_storable(user_id + device_id):
        return False
    since = timezone.now() - timedelta(days=KNOWN_DAYS)
    return Session.objects.filter(user=user_id, device_id=device_id, created_at__gt=since).exists()


def _cookie_of(user_id: str) -> str:
    return f"hplus_known_{_key('cookie', user_id)[:16]}"


def _device_of_cookie(request: HttpRequest, user_id: str) -> str:
    """Return the browser's own id, where a cookie proves that this person has signed in with it."""
    signed = request.COOKIES.get(_cookie_of(user_id), "")
    try:
        return f"browser {signing.loads(signed, salt=user_id, max_age=KNOWN_DAYS * 86400)}"
    except signing.BadSignature:
        return ""


class KnownBrowsers(MiddlewareMixin):
    """Gives a browser that has just signed in the cookie by which it is known next time."""

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        user_id = getattr(request, "signed_in_user_id", "")
        if user_id and not _device_of_cookie(request, user_id):
            response.set_cookie(
                _cookie_of(user_id),
                signing.dumps(secrets.token_hex(8), salt=user_id),
                max_age=KNOWN_DAYS * 86400,
                path="/admin/login/",
                httponly=True,
                secure=settings.SESSION_COOKIE_SECURE,
                samesite="Lax",
            )
        return response


class SignInForm(AuthenticationForm):
    """The admin site's sign-in form; it says how long one must wait."""

    def clean(self) -> dict[str, Any]:
        try:
            cleaned = super().clean()
        except errors.RateLimited as limited:
            raise ValidationError(f"Too many attempts. Please try again in {_spoken(limited)}.") from None
        user = self.get_user()
        if user is not None:
            self.request.signed_in_user_id = user.pk
        return cleaned


def _spoken(limited: errors.RateLimited) -> str:
    seconds = int(limited.retry_after or 0) + 1
    return f"{seconds} seconds" if seconds < 120 else f"{seconds // 60 + 1} minutes"
