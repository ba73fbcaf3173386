"""When a session ends: after a time without use, and after a time whatever it is used for, by role."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils.deprecation import MiddlewareMixin

from hplus.accounts.models import Session, User

BEGAN_AT, SEEN_AT = "began_at", "seen_at"  # in a session of the admin site, in seconds since 1970
SEEN_EVERY_SECONDS = 60  # so that not every request writes its session


def end_of(session: Session) -> datetime:
    """Return when the session ends, however often its tokens are renewed."""
    return session.created_at + timedelta(seconds=settings.SESSION_SECONDS[session.user.role])


def seconds_left(session: Session, now: datetime, *, at_most: float) -> float:
    """Return for how long a token issued now may be good; 0 or less where the session is over."""
    return min(at_most, (end_of(session) - now).total_seconds())


def idle_seconds(session: Session) -> float:
    """Return after how long without a renewal the session ends."""
    return float(settings.SESSION_IDLE_SECONDS[session.user.role])


# The admin site


def is_over(data: Mapping[str, Any], user: User) -> bool:
    """Whether this session of the admin site has reached its end; its idle end is its `expire_date`."""
    began_at = data.get(BEGAN_AT)
    return began_at is not None and time.time() - began_at > settings.SESSION_SECONDS[user.role]


@receiver(user_logged_in)
def _begin(request: HttpRequest, **_kwargs: Any) -> None:
    request.session[BEGAN_AT] = request.session[SEEN_AT] = int(time.time())


class AdminSessionEnds(MiddlewareMixin):
    """Ends a session of the admin site at its end, and moves its idle end while it is used."""

    def process_request(self, request: HttpRequest) -> None:
        if not request.path_info.startswith("/admin/") or not request.user.is_authenticated:
            return
        session, now = request.session, int(time.time())
        if is_over(session, request.user):
            logout(request)
            return
        session.setdefault(BEGAN_AT, now)
        if now - session.get(SEEN_AT, 0) >= SEEN_EVERY_SECONDS:
            session[SEEN_AT] = now
