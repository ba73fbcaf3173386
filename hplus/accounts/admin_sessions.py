"""Sessions of the admin site: Django's own, kept by the browser's cookie, not those of an app's device."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.models import Session as AdminSession
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from hplus.accounts import session_ends
from hplus.accounts.models import User
from hplus.portions import delete_in_portions


def signed_in(session_keys: Iterable[str]) -> dict[str, User]:
    """Return session key → its user, for sessions that may enter the admin site now; in two queries.

    A session ends by signing out, by its age, by a new password, or with the right to enter.
    """
    wanted = list(session_keys)
    if not wanted:
        return {}
    rows = AdminSession.objects.filter(session_key__in=wanted, expire_date__gt=timezone.now())
    kept = {row.session_key: row.get_decoded() for row in rows}
    people = User.objects.select_related("hospital").filter(is_active=True, is_staff=True)
    users = people.in_bulk([data[SESSION_KEY] for data in kept.values() if SESSION_KEY in data])
    found = {key: (users.get(data.get(SESSION_KEY)), data) for key, data in kept.items()}
    return {
        key: user
        for key, (user, data) in found.items()
        if user and _is_of(user, data) and not session_ends.is_over(data, user)
    }


def sign_out(user_ids: Iterable[str]) -> None:
    """End every admin session of these people.

    Django keeps the user inside the encoded session, so all unexpired sessions are read. They are as many
    as admins have signed in.
    """
    wanted = set(user_ids)
    if not wanted:
        return
    unexpired = AdminSession.objects.filter(expire_date__gt=timezone.now())
    ended = [row.pk for row in unexpired.iterator() if row.get_decoded().get(SESSION_KEY) in wanted]
    AdminSession.objects.filter(pk__in=ended).delete()


def delete_expired() -> int:
    """Delete the sessions that have ended. Returns how many."""
    ended = AdminSession.objects.filter(expire_date__lt=timezone.now())
    return delete_in_portions(ended.order_by("expire_date"))


def _is_of(user: User, data: dict[str, str]) -> bool:
    """Whether the session was opened with the current password, as Django's own login checks it."""
    return constant_time_compare(data.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash())
