"""Records sign-ins and sign-outs at the admin site, through Django's own signals."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.dispatch import receiver

from hplus.audit.actions import record
from hplus.audit.models import Verb


@receiver(user_logged_in)
def signed_in(user: Any, **_kwargs: Any) -> None:
    record(user, Verb.LOGIN, user, where="admin site")


@receiver(user_logged_out)
def signed_out(user: Any, **_kwargs: Any) -> None:
    if user is not None:
        record(user, Verb.LOGOUT, user, where="admin site")
