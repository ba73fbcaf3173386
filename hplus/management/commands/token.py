"""Open a session for a user and print its tokens."""

from __future__ import annotations

import getpass
import json
import os
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from hplus.accounts.actions import Tokens, issue_tokens
from hplus.accounts.models import Session, TokenKind, User
from hplus.accounts.views import TokenPair
from hplus.audit.actions import record
from hplus.audit.models import Verb

MOST_HOURS = int(min(settings.SESSION_SECONDS.values())) // 3600


def hours(text: str) -> float:
    number = float(text)
    if not 0 < number <= MOST_HOURS:
        raise ArgumentTypeError(f"must be more than 0 and at most {MOST_HOURS}")
    return number


class Command(BaseCommand):
    help = "Open a session for a user and print its access and refresh token."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", metavar="USER", help="userId")
        parser.add_argument("--device", default="command line", help="deviceId of the session")
        parser.add_argument("--hours", type=hours, help="how long the access token is good for")
        parser.add_argument("--json", action="store_true", help="as POST /api/auth/token/ answers")

    def handle(self, *args: Any, **options: Any) -> None:
        tokens = open_session(find(options["user"]), options["device"], options["hours"])
        pair = TokenPair.of(tokens).as_json()
        if options["json"]:
            self.stdout.write(json.dumps(pair))
            return
        for name in ("access", "refresh", "expiresAt"):
            self.stdout.write(f"{name:<10} {pair[name]}")


def find(user_id: str) -> User:
    user = User.objects.with_id(user_id).first()
    if user is None:
        raise CommandError(f"There is no user {user_id!r}.")
    if not user.is_active:
        raise CommandError(f"The account {user_id!r} is deactivated; reactivate it in the admin site.")
    return user


def operating_system_user() -> str:
    """The name of who runs the command, or the number where it has no name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@transaction.atomic
def open_session(user: User, device_id: str, hours: float | None) -> Tokens:
    session = Session.objects.create(user=user, device_id=device_id[:150])
    tokens = issue_tokens(session)
    operator = operating_system_user()
    record(None, Verb.LOGIN, user, where="command line", deviceId=session.device_id, operator=operator)
    if hours is None:
        return tokens
    expires_at = timezone.now() + timedelta(hours=hours)
    session.tokens.filter(kind=TokenKind.ACCESS).update(expires_at=expires_at)
    return replace(tokens, expires_at=expires_at)
