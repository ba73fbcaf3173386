"""One server process: the real hub, the real admission and the real life of each connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hplus.protocol.wire import Event
from hplus.realtime.actions import action, publish
from hplus.realtime.connection.admission import Admission
from hplus.realtime.connection.client import Client
from hplus.realtime.connection.lifecycle import ConnectionLifecycle
from hplus.realtime.connection.transport import DIRECT
from hplus.realtime.consumers import ConnectionConsumer
from hplus.realtime.execution.db_threads import in_db_thread
from hplus.realtime.groups import Group
from hplus.realtime.hub.hub import Hub
from hplus.realtime.hub.reconciliation import Reconciliation
from hplus.realtime.publishing.publisher import set_publisher
from tests.simulation.clock import Process
from tests.simulation.database import Database, Registration
from tests.simulation.transport import SimulatedTransport

GRACE_SECONDS = 5


class SimulatedServer:
    """Runs in a process of its own; its hub is started at once."""

    def __init__(self, process: Process, database: Database) -> None:
        self.process, self._database = process, database
        self.hub: Hub
        self.admission: Admission
        self.transports: list[SimulatedTransport] = []
        process.on_enter = self._enter
        self.do(self._start)

    def _enter(self) -> None:
        """What belongs to one process: where its threads publish, and who asks the database."""
        self._database.process = self.process
        if hasattr(self, "hub"):
            set_publisher(self.hub.publisher)

    def _start(self) -> None:
        self.hub, self.admission = Hub(), Admission()
        self.hub.server = Registration(self._database)  # type: ignore[assignment]
        self.hub._reconciliation = Reconciliation(self.hub.server)
        self.hub.start()

    def do(self, work: Callable[[], Any]) -> None:
        """Let its loop do this now."""
        self.process.call_soon(work)
        self.process.clock.run_for(0)

    @property
    def is_alive(self) -> bool:
        return not self.process.is_dead

    @property
    def clients(self) -> list[Client]:
        return [client for client in self.hub.clients if isinstance(client, Client)]

    def accept(self, transport: SimulatedTransport, query: str) -> None:
        """A client connects."""
        scope = {
            "type": "websocket",
            "headers": [],
            "query_string": query.encode(),
            "client": ("192.0.2.1", 1),
            "extensions": {DIRECT: transport},
        }
        asgi = scope, transport.receive, transport.send
        lifecycle = ConnectionLifecycle(*asgi, [ConnectionConsumer], hub=self.hub, admission=self.admission)
        self.transports.append(transport)
        self.do(lambda: self.process.create_task(lifecycle.accept()))

    def publish(self, events: list[Event], *to: Group) -> None:
        """Commit these in one action, in a thread."""

        @action
        def commit() -> None:
            for event in events:
                publish(event, *to)

        self.do(lambda: self.process.create_task(in_db_thread(commit)))

    def stop(self) -> None:
        """As on SIGTERM."""
        self.do(lambda: self.process.create_task(self._stop()))

    async def _stop(self) -> None:
        await self.hub.stop(GRACE_SECONDS)
        self.crash()

    def crash(self) -> None:
        """As on SIGKILL."""
        self.process.kill()
        for transport in self.transports:
            transport.network.call_later(0, transport.cut)
