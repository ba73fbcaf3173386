"""Coming and going at the admin site, which only Django's signals tell of."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.dispatch import receiver

from hplus.audit.actions import record
from hplus.audit.models import Verb


@receiver(user_logged_in)
def came(user: Any, **_kwargs: Any) -> None:
    record(user, Verb.LOGIN, user, where="admin site")


@receiver(user_logged_out)
def went(user: Any, **_kwargs: Any) -> None:
    if user is not None:
        record(user, Verb.LOGOUT, user, where="admin site")
