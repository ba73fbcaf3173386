"""A phone whose owner does not give up, and what it is owed.

It comes back with `since` and `epoch` after every break, and repeats each message under the same
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

HOSPITAL = "hospital_001"
ANSWER_WITHIN_SECONDS = 5.5
Frame = dict[str, Any]
Where = Callable[[], int]
_generations = itertools.count(1)


@dataclass
class ReconnectingClient:
    """One user on one socket at a time; `where` names the port to go to next."""

    where: Where
    user_id: str
    role: str
    receiver_id: str = ""
    hospital_id: str = HOSPITAL
    heard: list[Frame] = field(default_factory=list)
    alerts: list[Frame] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    close_codes: list[int | None] = field(default_factory=list)
    answered_again: int = 0  # acknowledged as duplicates: accepted before, but the answer was lost
    connects: int = 0
    slowest_answer_seconds: float = 0.0
    unrecovered: int = 0

    def __post_init__(self) -> None:
        self._since, self._epoch = 0, ""
        self.words_heard: set[str] = set()
        self._events: set[str] = set()
        self._on_this_socket: set[str] = set()
        self._socket: ClientConnection | None = None
        self._answers: dict[str, asyncio.Future[Frame]] = {}
        self._is_there, self._news = asyncio.Event(), asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # The connection

    @property
    def url(self) -> str:
        mine = f"userId={self.user_id}&role={self.role}&hospitalId={self.hospital_id}"
        cursor = f"&since={self._since}&epoch={self._epoch}" if self._epoch else ""
        return f"ws://127.0.0.1:{self.where()}/?{mine}{cursor}"

    async def stay_connected(self) -> None:
        while True:
            with contextlib.suppress(OSError, websockets.WebSocketException, TimeoutError):
                await self._one_connection()
            self._is_there.clear()
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ConnectionError())
            await asyncio.sleep(random.uniform(0.05, 0.2))

    async def _one_connection(self) -> None:
        async with connect(self.url, compression=None, max_size=None, open_timeout=4) as socket:
            self._socket = socket
            try:
                async for text in socket:
                    self._hear(json.loads(text))
            finally:
                self.close_codes.append(socket.close_code)

    def _hear(self, frame: Frame) -> None:
        if frame["type"] == "connection_established":
            self.connects += 1
            self._on_this_socket.clear()
            self.unrecovered += bool(self._epoch) and not frame["recovered"]
            self._since = max(self._since, frame["lastSeq"] if not self._epoch else 0)
            self._epoch = frame["epoch"]
            self._is_there.set()
        self._since = max(self._since, frame.get("seq") or 0)
        if frame["type"] == "newMessage":
            self._note(frame, frame["data"]["message"], self.heard)
        if frame["type"] == "emergencyAlert":
            self._note(frame, frame["data"]["emergencyId"], self.alerts)
        asked = frame.get("timestamp") if frame["type"] == "heartbeat" else frame.get("requestId")
        answer = self._answers.get(asked or "")
        if answer is not None and not answer.done():
            answer.set_result(frame)

    def _note(self, frame: Frame, word: str, heard: list[Frame]) -> None:
        """What is unread or open may be told again on a new socket, as the same event; on one it may not."""
        event_id = frame["eventId"]
        is_told_again = event_id in self._events and event_id not in self._on_this_socket
        self._events.add(event_id)
        self._on_this_socket.add(event_id)
        self.words_heard.add(word)
        self._news.set()
        if not is_told_again:
            heard.append(frame)

    async def has_heard(self, word: str) -> None:
        while word not in self.words_heard:
            self._news.clear()
            await self._news.wait()

    # Speaking

    async def keep_writing(self, pause_seconds: float = 0.02, **more: Any) -> None:
        mark = f"{self.user_id}.{next(_generations)}"
        for number in itertools.count():
            await self.write(f"{mark}.{number}", **more)
            await asyncio.sleep(pause_seconds)

    async def write(self, word: str, **more: Any) -> None:
        room = {"receiverId": self.receiver_id, "hospitalId": HOSPITAL}
        answer = await self.insist("sendMessage", word, **room, message=word, **more)
        self.acknowledged[word] = answer["data"]["messageId"]

    async def insist(self, type: str, once: str, **fields: Any) -> Frame:
        """The same request, again and again under the same clientMessageId, until it is acknowledged."""
        for attempt in itertools.count():
            await self._is_there.wait()
            frame = await self._try(type, f"{once}#{attempt}", clientMessageId=once, **fields)
            if frame["type"] == "ack":
                self.answered_again += frame["status"] == "duplicate"
                return frame
            self.refused[frame.get("code", "")] += 1
            await asyncio.sleep(0.1)
        raise AssertionError("unreachable")

    async def _try(self, type: str, request_id: str, **fields: Any) -> Frame:
        """The answer; `{"type": "gone"}` where the connection broke, `silence` where none came."""
        assert self._socket is not None
        answer = self._answers[request_id] = asyncio.get_running_loop().create_future()
        asked = {"type": type, "requestId": request_id, **fields}
        begun = time.monotonic()
        try:
            await self._socket.send(json.dumps(asked))
            async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
                frame = await answer
            self.slowest_answer_seconds = max(self.slowest_answer_seconds, time.monotonic() - begun)
            return frame
        except TimeoutError:
            return {"type": "silence", "code": "silence"}
        except (ConnectionError, websockets.ConnectionClosed):
            return {"type": "gone", "code": "gone"}
        finally:
            del self._answers[request_id]

    async def beat(self, within_seconds: float = 5) -> float:
        """Seconds until the heartbeat is answered."""
        assert self._socket is not None
        mark = f"beat.{next(_generations)}"
        answer = self._answers[mark] = asyncio.get_running_loop().create_future()
        begun = time.monotonic()
        await self._socket.send(json.dumps({"type": "heartbeat", "timestamp": mark}))
        await asyncio.wait_for(answer, within_seconds)
        return time.monotonic() - begun

    def texts(self) -> list[str]:
        return [frame["data"]["message"] for frame in self.heard]


@dataclass
class ClientPairs:
    """Pairs who write to each other, both ways."""

    deployment: Deployment
    phones: list[ReconnectingClient]

    @classmethod
    def of(cls, deployment: Deployment, pairs: int, where: Where, name: str) -> ClientPairs:
        phones = []
        for number in range(pairs):
            patient, nurse = f"{name}.patient.{number}", f"{name}.nurse.{number}"
            phones += [
                ReconnectingClient(where, patient, "patient", nurse),
                ReconnectingClient(where, nurse, "nurse", patient),
            ]
        return cls(deployment, phones)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(phone.stay_connected()) for phone in self.phones]
        try:
            await self.are_there()
            yield
        finally:
            await end(tasks)

    async def are_there(self, within_seconds: float = 15) -> None:
        async with asyncio.timeout(within_seconds):
            for phone in self.phones:
                await phone._is_there.wait()

    @contextlib.asynccontextmanager
    async def writing(self, **more: Any) -> AsyncIterator[None]:
        """While the block runs all of them write; afterwards each has its last word acknowledged."""
        tasks = [asyncio.create_task(phone.keep_writing(**more)) for phone in self.phones]
        try:
            yield
        finally:
            await end(tasks)

    async def probe(self, within_seconds: float) -> float:
        """A fresh word from everyone, heard by its receiver: seconds until the last was heard."""
        mark = f"probe.{next(_generations)}"
        begun = time.monotonic()
        words = {phone.user_id: f"{mark}.{phone.user_id}" for phone in self.phones}
        async with asyncio.timeout(within_seconds):
            await asyncio.gather(*(phone.write(words[phone.user_id]) for phone in self.phones))
            for phone in self.phones:
                await phone.has_heard(words[phone.receiver_id])
        return time.monotonic() - begun

    @contextlib.asynccontextmanager
    async def beating(self, within_seconds: float = 1) -> AsyncIterator[list[float]]:
        """While the block runs all of them send heartbeats; the seconds each answer took."""
        took: list[float] = []

        async def beat() -> None:
            while True:
                took.extend(await asyncio.gather(*(phone.beat() for phone in self.phones)))
                await asyncio.sleep(0.2)

        task = asyncio.create_task(beat())
        try:
            yield took
        finally:
            await end([task])
        assert took, "no heartbeat was sent"
        assert max(took) < within_seconds, max(took)

    def reckoning(self) -> DeliveryReport:
        return DeliveryReport.of(self.deployment, self.phones)


@dataclass
class DeliveryReport:
    """What was acknowledged against what is stored and what was heard."""

    acknowledged: int
    lost: list[str]
    duplicated: list[str]
    out_of_order: list[str]

    @classmethod
    def of(cls, deployment: Deployment, phones: Iterable[ReconnectingClient]) -> DeliveryReport:
        names = {phone.user_id for phone in phones}
        rows = deployment.ask("SELECT text, sender_id, room_id FROM chat_message ORDER BY id")
        stored = [row for row in rows if row[1] in names]
        times_stored = Counter(row[0] for row in stored)
        lost, duplicated, out_of_order = [], [], []
        by_name = {phone.user_id: phone for phone in phones}
        for phone in phones:
            other = by_name[phone.receiver_id]
            owed = [*phone.acknowledged, *other.acknowledged]
            heard = Counter(phone.texts())
            lost += [word for word in owed if not times_stored[word] or not heard[word]]
            duplicated += [word for word, times in heard.items() if times > 1]
            pair = {phone.user_id, other.user_id}
            in_room = [text for text, sender, _ in stored if sender in pair]
            first_heard = list(dict.fromkeys(phone.texts()))
            if first_heard != [text for text in in_room if text in heard]:
                out_of_order.append(phone.user_id)
        duplicated += [word for word, times in times_stored.items() if times > 1]
        acknowledged = sum(len(phone.acknowledged) for phone in phones)
        return cls(acknowledged, lost, duplicated, out_of_order)

    def must_be_clean(self) -> None:
        assert self.acknowledged > 0, "nothing was written"
        assert not self.lost, f"{len(self.lost)} of {self.acknowledged} lost: {self.lost[:5]}"
        assert not self.duplicated, f"{len(self.duplicated)} duplicated: {self.duplicated[:5]}"
        assert not self.out_of_order, self.out_of_order


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancelled until it is over: a connection that breaks just then may swallow the first time."""
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
