"""Rate limits of the API: those of the socket, counted separately for HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from hplus import errors
from hplus.realtime.connection.rate_limits import Bucket, Buckets, long_answers, message_limit_of_a_user

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which reads the settings, which name this module

    from hplus.accounts.models import User
    from hplus.realtime.actions import Result

# A hospital behind one address signs in at the beginning of a shift; each time a password is hashed.
SIGN_INS_PER_SECOND = 5
SIGN_INS_BURST = 100


_lock = threading.Lock()
_users = Buckets(message_limit_of_a_user)
_addresses = Buckets(lambda: Bucket(SIGN_INS_PER_SECOND, SIGN_INS_BURST))


class ApiThrottle(BaseThrottle):
    """Limits each user; requests without a user are limited by address."""

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
        return _addresses.take(request.META.get("REMOTE_ADDR", ""))


def forget() -> None:
    """Forget all counts, when a server starts."""
    with _lock:
        _users.forget()
        _addresses.forget()
