"""Claims: who a request or a handshake says it is, before anybody has looked it up.

A whole hospital may have one address, so what is limited by address is limited for each claim first: a device
that keeps failing uses up its own share. The counts are those of this process.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections import Counter
from collections.abc import Iterator

from django.conf import settings
from django.http import HttpRequest

from hplus.api.token_buckets import Bucket, Buckets

# Requests with a claim that is refused with 401, from one address.
FAILURES_PER_SECOND, FAILURES_BURST = 1, 20
BODY_BYTES = 4096  # of a sign-in; a longer one claims nothing
_SIGN_IN = re.compile(r"/(api/auth/(token|refresh)|admin/login)/")
_WHO = re.compile(rb'"(?:userId|deviceId|refresh)"\s*:\s*"[^"]{1,500}"|(?:^|&)username=[^&]{1,500}')


def claimant_of(request: HttpRequest) -> str:
    """Return a name for who the request claims to be; blank where it claims nothing.

    It is a hash of the token, of the admin site's cookie, or of what it signs in with: a refresh token, or
    the userId with the device, so that who guesses a colleague's password uses up nothing of the colleague's.
    """
    claim = request.headers.get("Authorization") or request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    shown = claim.encode("utf-8", "surrogatepass") if claim else _signs_in_as(request)
    return hashlib.blake2b(shown, digest_size=12).hexdigest() if shown else ""


def _signs_in_as(request: HttpRequest) -> bytes:
    length = request.META.get("CONTENT_LENGTH") or "0"
    is_sign_in = request.method == "POST" and _SIGN_IN.match(request.path_info)
    if not is_sign_in or not length.isdecimal() or int(length) > BODY_BYTES:
        return b""
    browser = request.COOKIES.get(settings.CSRF_COOKIE_NAME, "").encode("utf-8", "surrogatepass")
    found = sorted(_WHO.findall(request.body))
    return b"&".join([*found, browser]) if found else b""


def address_of(request: HttpRequest) -> str:
    return str(request.META.get("REMOTE_ADDR", ""))


class Shares:
    """How much of something each address has, and each claim there, with a bound for either."""

    def __init__(self, of_an_address: int, of_one_claim: int) -> None:
        self._of_an_address, self._of_one_claim = of_an_address, of_one_claim
        self._taken: Counter[tuple[str, ...]] = Counter()

    def __len__(self) -> int:
        return self._taken.total() // 2

    def has_room(self, address: str, claimant: str) -> bool:
        """Whether one more is within both bounds; those who claim nothing share twice that of a claim."""
        of_the_address, of_the_claim = (self._taken[key] for key in _keys(address, claimant))
        most_of_the_claim = self._of_one_claim if claimant else 2 * self._of_one_claim
        return of_the_address < self._of_an_address and of_the_claim < most_of_the_claim

    @contextlib.contextmanager
    def take(self, address: str, claimant: str) -> Iterator[None]:
        """Count one while the block runs."""
        keys = _keys(address, claimant)
        self._taken.update(keys)
        try:
            yield
        finally:
            self._taken.subtract(keys)
            for key in keys:
                if not self._taken[key]:
                    del self._taken[key]


def _keys(address: str, claimant: str) -> tuple[tuple[str, ...], ...]:
    return (address,), (address, claimant)


_failures = Buckets(lambda: Bucket(FAILURES_PER_SECOND, FAILURES_BURST))


def wait_seconds(address: str, claimant: str) -> float:
    """Return how long this claim must wait after its failures; 0 where it need not."""
    return _failures.wait_seconds(f"{claimant} {address}") if claimant else 0


def note_failure(address: str, claimant: str) -> None:
    """Note that who claimed this was not let in."""
    if claimant:
        _failures.take(f"{claimant} {address}")


def forget() -> None:
    """A server that starts has refused nobody yet."""
    _failures.forget()
