"""A client that never gives up, and the comparison of what it was owed with what it got.

After every break it reconnects with `since` and `epoch`, and it repeats each request under the same
`clientMessageId` until that is acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect

from tests.faults.deployment import Deployment
from tests.waiting import PATIENCE_SECONDS, until

HOSPITAL = "hospital_001"
Frame = dict[str, Any]
ChoosePort = Callable[[], int]
_generations = itertools.count(1)


@dataclass
class ReconnectingClient:
    """One user on one connection at a time; `choose_port` names the server of the next attempt."""

    choose_port: ChoosePort
    user_id: str
    role: str
    receiver_id: str = ""
    hospital_id: str = HOSPITAL
    messages: list[Frame] = field(default_factory=list)
    alerts: list[Frame] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    emergency_ids: dict[str, str] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    close_codes: list[int | None] = field(default_factory=list)
    duplicate_acks: int = 0  # accepted before, but the ack was lost
    connects: int = 0
    slowest_answer_seconds: float = 0.0
    unrecovered: int = 0

    def __post_init__(self) -> None:
        self._since, self._epoch = 0, ""
        self.received: set[str] = set()  # texts and emergencyIds
        self._events: set[str] = set()
        self._events_of_connection: set[str] = set()
        self._socket: ClientConnection | None = None
        self._answers: dict[str, asyncio.Future[Frame]] = {}
        self.is_connected, self._news = asyncio.Event(), asyncio.Event()

    # The connection

    @property
    def url(self) -> str:
        identity = f"userId={self.user_id}&role={self.role}&hospitalId={self.hospital_id}"
        cursor = f"&since={self._since}&epoch={self._epoch}" if self._epoch else ""
        return f"ws://127.0.0.1:{self.choose_port()}/?{identity}{cursor}"

    async def stay_connected(self) -> None:
        while True:
            with contextlib.suppress(OSError, websockets.WebSocketException, TimeoutError):
                await self._one_connection()
            self.is_connected.clear()
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ConnectionError())
            await asyncio.sleep(random.uniform(0.05, 0.2))

    async def _one_connection(self) -> None:
        patience = PATIENCE_SECONDS / 2
        async with connect(self.url, compression=None, max_size=None, open_timeout=patience) as socket:
            self._socket = socket
            try:
                async for text in socket:
                    self._receive(json.loads(text))
            finally:
                self.close_codes.append(socket.close_code)

    def _receive(self, frame: Frame) -> None:
        if frame["type"] == "connection_established":
            self.connects += 1
            self._events_of_connection.clear()
            self.unrecovered += bool(self._epoch) and not frame["recovered"]
            self._since = max(self._since, frame["lastSeq"] if not self._epoch else 0)
            self._epoch = frame["epoch"]
            self.is_connected.set()
        self._since = max(self._since, frame.get("seq") or 0)
        if frame["type"] == "newMessage":
            self._store(frame, frame["data"]["message"], self.messages)
        if frame["type"] == "emergencyAlert":
            self._store(frame, frame["data"]["emergencyId"], self.alerts)
        request_id = frame.get("timestamp") if frame["type"] == "heartbeat" else frame.get("requestId")
        answer = self._answers.get(request_id or "")
        if answer is not None and not answer.done():
            answer.set_result(frame)

    def _store(self, frame: Frame, key: str, stored: list[Frame]) -> None:
        """A new connection may repeat an event under its eventId; one connection may not."""
        event_id = frame["eventId"]
        is_replay = event_id in self._events and event_id not in self._events_of_connection
        self._events.add(event_id)
        self._events_of_connection.add(event_id)
        self.received.add(key)
        self._news.set()
        if not is_replay:
            stored.append(frame)

    async def receives(self, key: str) -> None:
        """Wait for a text or an emergencyId."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while key not in self.received:
                self._news.clear()
                await self._news.wait()

    # Requests

    async def keep_writing(self, pause_seconds: float = 0.02, **more: Any) -> None:
        mark = f"{self.user_id}.{next(_generations)}"
        for number in itertools.count():
            await self.write(f"{mark}.{number}", **more)
            await asyncio.sleep(pause_seconds)

    async def write(self, text: str, **more: Any) -> None:
        room = {"receiverId": self.receiver_id, "hospitalId": HOSPITAL}
        ack = await self.send_until_acknowledged("sendMessage", text, **room, message=text, **more)
        self.acknowledged[text] = ack["data"]["messageId"]

    async def send_until_acknowledged(self, type: str, client_message_id: str, **fields: Any) -> Frame:
        for attempt in itertools.count():
            await self.is_connected.wait()
            answer = await self._try(
                type, f"{client_message_id}#{attempt}", clientMessageId=client_message_id, **fields
            )
            if answer["type"] == "ack":
                self.duplicate_acks += answer["status"] == "duplicate"
                return answer
            self.refused[answer.get("code", "")] += 1
            await asyncio.sleep(0.1)
        raise AssertionError("unreachable")

    async def _try(self, type: str, request_id: str, **fields: Any) -> Frame:
        """The answer; `{"type": "gone"}` where the connection broke, `silence` where none came."""
        assert self._socket is not None
        answer = self._answers[request_id] = asyncio.get_running_loop().create_future()
        request = {"type": type, "requestId": request_id, **fields}
        began = time.monotonic()
        try:
            await self._socket.send(json.dumps(request))
            async with asyncio.timeout(PATIENCE_SECONDS / 2):
                frame = await answer
            self.slowest_answer_seconds = max(self.slowest_answer_seconds, time.monotonic() - began)
            return frame
        except TimeoutError:
            return {"type": "silence", "code": "silence"}
        except (ConnectionError, websockets.ConnectionClosed):
            return {"type": "gone", "code": "gone"}
        finally:
            del self._answers[request_id]

    async def heartbeat(self) -> float:
        """Seconds until the heartbeat is answered."""
        assert self._socket is not None
        mark = f"heartbeat.{next(_generations)}"
        answer = self._answers[mark] = asyncio.get_running_loop().create_future()
        began = time.monotonic()
        await self._socket.send(json.dumps({"type": "heartbeat", "timestamp": mark}))
        await asyncio.wait_for(answer, PATIENCE_SECONDS)
        return time.monotonic() - began

    def texts(self) -> list[str]:
        return [frame["data"]["message"] for frame in self.messages]


@dataclass
class ClientPairs:
    """Pairs of clients that write to each other, both ways."""

    deployment: Deployment
    clients: list[ReconnectingClient]

    @classmethod
    def of(cls, deployment: Deployment, pairs: int, choose_port: ChoosePort, name: str) -> ClientPairs:
        clients = []
        for number in range(pairs):
            patient, nurse = f"{name}.patient.{number}", f"{name}.nurse.{number}"
            clients += [
                ReconnectingClient(choose_port, patient, "patient", nurse),
                ReconnectingClient(choose_port, nurse, "nurse", patient),
            ]
        return cls(deployment, clients)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(client.stay_connected()) for client in self.clients]
        try:
            await self.all_connected()
            yield
        finally:
            await end(tasks)

    async def all_connected(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for client in self.clients:
                await client.is_connected.wait()

    @contextlib.asynccontextmanager
    async def writing(self, **more: Any) -> AsyncIterator[None]:
        """While the block runs all of them write."""
        tasks = [asyncio.create_task(client.keep_writing(**more)) for client in self.clients]
        try:
            yield
        finally:
            await end(tasks)

    async def acknowledged(self, count: int) -> None:
        """Wait for so many more acknowledged messages of each client."""
        enough = {client.user_id: len(client.acknowledged) + count for client in self.clients}
        await until(lambda: all(len(one.acknowledged) >= enough[one.user_id] for one in self.clients))

    async def refused(self) -> None:
        """Wait for one more refused request."""

        def refusals() -> int:
            return sum(client.refused.total() for client in self.clients)

        before = refusals()
        await until(lambda: refusals() > before)

    async def probe(self) -> None:
        """A new message of each client reaches its receiver."""
        mark = f"probe.{next(_generations)}"
        texts = {client.user_id: f"{mark}.{client.user_id}" for client in self.clients}
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(client.write(texts[client.user_id]) for client in self.clients))
            for client in self.clients:
                await client.receives(texts[client.receiver_id])

    async def heartbeats(self) -> list[float]:
        """One heartbeat of each client; the seconds until the answers."""
        return await asyncio.gather(*(client.heartbeat() for client in self.clients))

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[list[float]]:
        """While the block runs all of them send heartbeats; the seconds until the answers."""
        took: list[float] = []

        async def beat() -> None:
            while True:
                took.extend(await self.heartbeats())
                await asyncio.sleep(0.2)

        task = asyncio.create_task(beat())
        try:
            yield took
            if task.done():
                task.result()  # raises what ended it
        finally:
            await end([task])
        assert took, "no heartbeat was answered"

    def report(self) -> DeliveryReport:
        return DeliveryReport.of(self.deployment, self.clients)


@dataclass
class DeliveryReport:
    """What was acknowledged, compared with what is stored and what was received."""

    acknowledged: int
    lost: list[str]
    duplicated: list[str]
    out_of_order: list[str]

    @classmethod
    def of(cls, deployment: Deployment, clients: Iterable[ReconnectingClient]) -> DeliveryReport:
        by_name = {client.user_id: client for client in clients}
        rows = deployment.query("SELECT text, sender_id, room_id FROM chat_message ORDER BY id")
        stored = [row for row in rows if row[1] in by_name]
        times_stored = Counter(row[0] for row in stored)
        lost, duplicated, out_of_order = [], [], []
        for client in by_name.values():
            other = by_name[client.receiver_id]
            received = Counter(client.texts())
            owed = [*client.acknowledged, *other.acknowledged]
            lost += [text for text in owed if not times_stored[text] or not received[text]]
            duplicated += [text for text, times in received.items() if times > 1]
            pair = {client.user_id, other.user_id}
            in_room = [text for text, sender, _ in stored if sender in pair]
            if list(dict.fromkeys(client.texts())) != [text for text in in_room if text in received]:
                out_of_order.append(client.user_id)
        duplicated += [text for text, times in times_stored.items() if times > 1]
        acknowledged = sum(len(client.acknowledged) for client in by_name.values())
        return cls(acknowledged, lost, duplicated, out_of_order)

    def must_be_clean(self) -> None:
        assert self.acknowledged > 0, "nothing was written"
        assert not self.lost, f"{len(self.lost)} of {self.acknowledged} lost: {self.lost[:5]}"
        assert not self.duplicated, f"{len(self.duplicated)} duplicated: {self.duplicated[:5]}"
        assert not self.out_of_order, self.out_of_order


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel until all are done: a connection that breaks at that moment may swallow the first time."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1)


def wrong_clocks() -> list[str]:
    """A day early without a zone, a day late with one, and the first and last years there are."""
    now = datetime.now(UTC)
    return [
        (now - timedelta(days=1)).replace(tzinfo=None).isoformat(),
        (now + timedelta(days=1)).isoformat().replace("+00:00", "Z"),
        "0001-01-01T00:00:00",
        "9999-12-31T23:59:59.999999Z",
    ]
