"""Rate limits of the API: those of the socket, counted separately for HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from hplus import errors
from hplus.api import claims
from hplus.api.token_buckets import Bucket, Buckets
from hplus.realtime.connection.rate_limits import long_answers, message_limit_of_a_user

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which reads the settings, which name this module

    from hplus.accounts.models import User
    from hplus.realtime.actions import Result

# A hospital behind one address signs in at the beginning of a shift; each time a password is hashed.
SIGN_INS_PER_SECOND = 5
SIGN_INS_BURST = 100
# Of one account there: whoever keeps trying leaves the rest to the others.
SIGN_INS_OF_ONE_PER_SECOND = 1
SIGN_INS_OF_ONE_BURST = 30
# A refresh hashes no password, and after an outage all phones of a hospital ask for one.
REFRESHES_PER_SECOND = 50
REFRESHES_BURST = 1_000


_lock = threading.Lock()
_users = Buckets(message_limit_of_a_user)
_addresses = Buckets(lambda: Bucket(SIGN_INS_PER_SECOND, SIGN_INS_BURST))
_refreshing = Buckets(lambda: Bucket(REFRESHES_PER_SECOND, REFRESHES_BURST))
_claimants = Buckets(lambda: Bucket(SIGN_INS_OF_ONE_PER_SECOND, SIGN_INS_OF_ONE_BURST))


class ApiThrottle(BaseThrottle):
    """Limits each user; requests without a user by who they claim to be at an address, then by address."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Raises RateLimited."""
        if wait_seconds := _take(request):
            raise errors.RateLimited(retry_after=round(wait_seconds, 3))
        return True


def read_long_answer(user: User, read: Callable[[], Result]) -> Result:
    """Read what may be long, one at a time for each person, and charge for what was read.

    Raises RateLimited.
    """
    with long_answers.at_once(user.pk):
        result = read()
    with _lock:
        _users.charge(user.pk, result.cost)
    return result


def _take(request: Request) -> float:
    user = request.user
    with _lock:
        if user.is_authenticated:
            return _users.take(str(user.pk)) if settings.HPLUS_MESSAGES_PER_MINUTE else 0
        address, claimant = claims.address_of(request), claims.claimant_of(request._request)
        wide = _refreshing if request.path.endswith("/refresh/") else _addresses
        return _claimants.take(f"{claimant} {address}") or wide.take(address)


def forget() -> None:
    """Forget all counts, when a server starts."""
    with _lock:
        _users.forget()
        _addresses.forget()
        _refreshing.forget()
        _claimants.forget()
        claims.forget()
