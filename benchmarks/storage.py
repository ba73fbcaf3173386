"""PostgreSQL and Redis of a benchmark's own, the accounts in them, and what the database knows of times."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar, Self

import django
import psycopg
from django.core.management import call_command

from benchmarks.websocket import Account
from tests.services import Postgres, Redis

# As an installation runs, but for the limits: one machine plays all phones.
PRODUCTION = {
    "DJANGO_SETTINGS_MODULE": "hplus.settings",
    "DEBUG": "0",
    "HPLUS_DEMO": "0",
    "ALLOWED_HOSTS": "127.0.0.1",
    "HPLUS_REQUIRE_TLS": "0",  # no proxy is in between
    "HPLUS_MESSAGES_PER_MINUTE": "0",
    "HPLUS_MAX_SOCKETS_PER_IP": "0",
    "HPLUS_MAX_SOCKETS_PER_USER": "0",
}


class TimedPostgres(Postgres):
    """PostgreSQL that remembers when each transaction was committed."""

    settings: ClassVar = {**Postgres.settings, "track_commit_timestamp": "on"}


class Storage:
    """Two databases, one for HPlus and one for the peer, and a Redis; all gone at the end.

    Within the block this process has HPlus's production settings and Django set up.
    """

    def __init__(self) -> None:
        self.postgres, self.redis = TimedPostgres(), Redis()
        self._runs = itertools.count()

    def __enter__(self) -> Self:
        self.postgres.start()
        self.redis.start()
        for name in ("hplus", "peer"):
            self.execute("postgres", f"CREATE DATABASE {name}")
        os.environ.update(PRODUCTION | self.environment("hplus"), SECRET_KEY=secrets.token_urlsafe(50))
        django.setup()
        call_command("migrate", verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        return self

    def __exit__(self, *_: object) -> None:
        from django.db import connection

        connection.close()
        connection.close_pool()
        self.redis.close()
        self.postgres.close()

    @property
    def postgres_pid(self) -> int:
        assert self.postgres.process
        return self.postgres.process.pid

    def environment(self, name: str) -> dict[str, str]:
        return {"DATABASE_URL": self.url(name), "REDIS_URL": self.redis.url}

    def url(self, name: str) -> str:
        return self.postgres.url.removesuffix("postgres") + name

    def execute(self, name: str, sql: Any, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement in one of the databases, in a transaction of its own. Returns its rows."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            cursor = connection.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def accounts(self, roles: Sequence[str], hospitals: int = 1) -> list[Account]:
        """New accounts with these roles, two by two in the same hospital.

        New ones for each run: what an earlier one has left unread would be delivered in this one.
        """
        prefix = f"bench{next(self._runs)}"
        places = [f"{prefix}_{n // 2 % hospitals}" for n in range(len(roles))]
        users = [
            (f"{prefix}_user_{n}", role, place)
            for n, (role, place) in enumerate(zip(roles, places, strict=True))
        ]
        return [Account(*user, token) for user, token in zip(users, _store(users), strict=True)]


def _store(users: list[tuple[str, str, str]]) -> list[str]:
    """Store users (userId, role, hospitalId), each with a session. Returns their access tokens."""
    from django.db import connection
    from django.utils import timezone

    from hplus.accounts.models import STAFF_ROLES, Hospital, Session, Token, TokenKind, User

    hospitals = sorted({hospital_id for _, _, hospital_id in users})
    Hospital.objects.bulk_create([Hospital(hospital_id=key, name=key) for key in hospitals])
    User.objects.bulk_create(
        User(user_id=user_id, role=role, hospital_id=place if role in STAFF_ROLES else None, password="!")
        for user_id, role, place in users
    )
    sessions = Session.objects.bulk_create([Session(user_id=user_id) for user_id, _, _ in users])
    tokens = [secrets.token_urlsafe(32) for _ in users]
    expires_at = timezone.now() + timedelta(hours=1)
    Token.objects.bulk_create(
        Token(digest=Token.digest_of(token), kind=TokenKind.ACCESS, session=session, expires_at=expires_at)
        for token, session in zip(tokens, sessions, strict=True)
    )
    connection.close()  # this thread may not come again
    return tokens
