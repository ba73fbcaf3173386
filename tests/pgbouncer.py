"""A pgbouncer in transaction mode before a PostgreSQL: one server connection, which all share."""

from __future__ import annotations

import shutil
import signal
import socket
from pathlib import Path
from typing import Any, ClassVar

from tests.services import READY_WITHIN_SECONDS, Service, as_user, unprivileged_user

CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={postgres}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 200
"""


def binary() -> str | None:
    return shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")


class PgBouncer(Service):
    name = "pgbouncer"
    stop_signals: ClassVar = {"fast": signal.SIGINT, "immediate": signal.SIGTERM}

    def __init__(self, postgres_port: int, connections: int = 1) -> None:
        super().__init__()
        self.postgres_port, self.connections = postgres_port, connections
        self.user = unprivileged_user()

    @property
    def url(self) -> str:
        return f"postgres://hplus@127.0.0.1:{self.port}/postgres"

    def command(self, directory: Path) -> list[str]:
        users, configuration = directory / "users.txt", directory / "pgbouncer.ini"
        users.write_text('"hplus" ""\n', encoding="utf-8")
        configuration.write_text(
            CONFIGURATION.format(
                postgres=self.postgres_port, own=self.port, users=users, connections=self.connections
            ),
            encoding="utf-8",
        )
        if self.user:
            for path in (directory, users, configuration):
                shutil.chown(path, self.user)
        return [str(binary()), str(configuration)]

    def surroundings(self, directory: Path) -> dict[str, Any]:
        return {"cwd": directory, **as_user(self.user)}

    def is_ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=READY_WITHIN_SECONDS).close()
        except OSError:
            return False
        return True
