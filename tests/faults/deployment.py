"""PostgreSQL, Redis and servers that a test may kill, freeze and restart."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import Any, Self

import psycopg

from tests.servers import ROOT, ProcessServer
from tests.services import Postgres, Redis

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))


class Deployment:
    """The machines of one hospital: PostgreSQL, Redis and any number of servers."""

    def __init__(self) -> None:
        self.postgres, self.redis = Postgres(), Redis()
        self.servers: list[ProcessServer] = []
        self._has_own_settings = False  # of the servers
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.postgres)
        self._stack.enter_context(self.redis)
        for command in ("migrate", "seed_demo"):
            self.manage(command, "--verbosity", "0")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_servers()
        self._stack.close()

    @property
    def environment(self) -> dict[str, str]:
        return {"DATABASE_URL": self.postgres.url, "REDIS_URL": self.redis.url}

    def manage(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment},
            check=True,
            capture_output=True,
        )

    def serve(self, count: int = 1, **environment: str) -> list[ProcessServer]:
        """Run so many servers side by side, by default without a rate limit for messages.

        A server that survived the tests before is used again: it must be as good as a new one.
        """
        if environment:
            self.stop_servers()
        while len(self.servers) < count:
            settings = {"HPLUS_MESSAGES_PER_MINUTE": "0", **self.environment, **environment}
            self.servers.append(ProcessServer(None, **settings).start(wait=False))
        for server in self.servers[:count]:
            server.wait_until_ready()
        for server in self.servers[count:]:
            server.__exit__()
        del self.servers[count:]
        self._has_own_settings = bool(environment)
        return list(self.servers)

    def stop_servers(self) -> None:
        for server in self.servers:
            server.__exit__()
        self.servers.clear()

    def repair(self) -> None:
        """Run again whatever a test has left stopped or frozen."""
        if self._has_own_settings:
            self.stop_servers()
        self.servers = [server for server in self.servers if server.process.poll() is None]
        for service in (self.postgres, self.redis):
            service.thaw()
            if service.process is None:
                service.start()

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.postgres.url) as connection:
            return connection.execute(sql, values).fetchall()

    def execute(self, sql: str, *values: Any) -> None:
        with psycopg.connect(self.postgres.url) as connection:
            connection.execute(sql, values)
