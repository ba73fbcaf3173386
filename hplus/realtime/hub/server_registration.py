"""The row by which a server process tells the others that its connections are alive."""

from __future__ import annotations

import os
import socket
import uuid

from hplus.realtime.models import Connection, ServerProcess


class ServerRegistration:
    """This process's row, which tells the others that its connections are alive."""

    def __init__(self) -> None:
        self.server_id = uuid.uuid4()
        self._is_registered = False

    def register(self) -> None:
        if self._is_registered:
            return
        ServerProcess.objects.get_or_create(
            server_id=self.server_id,
            defaults={"host": socket.gethostname()[:200], "pid": os.getpid()},
        )
        self._is_registered = True

    def register_again(self, connections: list[Connection]) -> None:
        """Register after another process has taken this server for dead, and its connections with it."""
        self._is_registered = False
        self.register()
        Connection.objects.bulk_create(connections, ignore_conflicts=True)

    def retire(self) -> None:
        ServerProcess.objects.filter(pk=self.server_id).delete()
