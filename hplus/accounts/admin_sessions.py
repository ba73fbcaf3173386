"""Browsers that are signed in to the admin site, by their session cookie."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.models import Session as BrowserSession
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from hplus.accounts.models import User


def signed_in(session_keys: Iterable[str]) -> dict[str, User]:
    """session key → who may enter the admin site with it, now; two queries for any number.

    A session ends by signing out, by its age, by a new password, or with the right to enter.
    """
    wanted = list(session_keys)
    if not wanted:
        return {}
    rows = BrowserSession.objects.filter(session_key__in=wanted, expire_date__gt=timezone.now())
    kept = {row.session_key: row.get_decoded() for row in rows}
    people = User.objects.select_related("hospital").filter(is_active=True, is_staff=True)
    users = people.in_bulk([data[SESSION_KEY] for data in kept.values() if SESSION_KEY in data])
    found = {key: (users.get(data.get(SESSION_KEY)), data) for key, data in kept.items()}
    return {key: user for key, (user, data) in found.items() if user and _is_of(user, data)}


def sign_out(user_ids: Iterable[str]) -> None:
    """End every session of these people.

    Whose a session is stands inside of it, so all that live are read. Only those who have entered the
    admin site have one.
    """
    wanted = set(user_ids)
    if not wanted:
        return
    living = BrowserSession.objects.filter(expire_date__gt=timezone.now())
    ended = [row.pk for row in living.iterator() if row.get_decoded().get(SESSION_KEY) in wanted]
    BrowserSession.objects.filter(pk__in=ended).delete()


def _is_of(user: User, data: dict[str, str]) -> bool:
    """Whether the session was opened with the password of today, as Django's own login checks it."""
    return constant_time_compare(data.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash())
