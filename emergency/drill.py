"""Emergencies played by simulated patients and crews over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hplus.protocol.wire import new_id

Frame = dict[str, Any]
Key = tuple[str, ...]
ESTABLISHED = ("connection_established",)
SCENE = (37.7749, -122.4194)
WAY = ("enRoute", "onScene", "atPatient", "transporting", "atDestination")


@dataclass(frozen=True)
class Player:
    """Who takes part; without a token the query alone identifies (demo mode)."""

    user_id: str
    role: str
    hospital_id: str
    token: str = ""

    def address(self, url: str) -> str:
        query = {"userId": self.user_id, "role": self.role}
        if self.role != "patient":
            query["hospitalId"] = self.hospital_id
        return f"{url}?{urlencode(query)}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


@dataclass
class Played:
    """One emergency: seconds from the call to each step, and what never came."""

    seconds: dict[str, float] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


class Refused(Exception):
    """The server said no where a drill needs a yes."""


class Deadline:
    """One socket. Whoever waits for a frame waits for its key; a frame may come before."""

    def __init__(self, player: Player, url: str, patience_seconds: float) -> None:
        self.player, self.url, self.patience_seconds = player, url, patience_seconds
        self.heard: Counter[Key] = Counter()
        self._awaited: dict[Key, asyncio.Future[Frame]] = {}
        self._socket: ClientConnection
        self._reading: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._socket = await connect(
            self.player.address(self.url),
            additional_headers=self.player.headers,
            compression=None,
            open_timeout=self.patience_seconds,
        )
        self._reading = asyncio.create_task(self._read())
        await self.expect(*ESTABLISHED)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()
        await self._reading

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):  # what was awaited then counts as lost
            async for text in self._socket:
                self._note(json.loads(text))

    def _note(self, frame: Frame) -> None:
        key = _key(frame)
        self.heard[key] += 1
        if frame["type"] == "error" and not self.heard[ESTABLISHED]:
            self._future(ESTABLISHED).set_exception(Refused(f"{frame['code']}: {frame['message']}"))
            return
        future = self._future(key)
        if not future.done():
            future.set_result(frame)

    def _future(self, key: Key) -> asyncio.Future[Frame]:
        if key not in self._awaited:
            self._awaited[key] = asyncio.get_running_loop().create_future()
        return self._awaited[key]

    async def expect(self, *key: str) -> Frame:
        """Raises TimeoutError where it does not come."""
        return await asyncio.wait_for(asyncio.shield(self._future(key)), self.patience_seconds)

    async def ask(self, type: str, **fields: Any) -> Frame:
        """The `ack` or `error`; who asks too fast asks again when told to."""
        while True:
            request_id = new_id()
            frame = {"type": type, "requestId": request_id, **fields}
            await self._socket.send(json.dumps(frame))
            answer = await self.expect("answer", request_id)
            if answer.get("code") != "RATE_LIMITED":
                return answer
            await asyncio.sleep(float(answer["retryAfter"]))


def _key(frame: Frame) -> Key:
    word = str(frame["type"])
    if word in ("ack", "error"):
        return ("answer", str(frame.get("requestId")))
    inner = frame["data"] if isinstance(frame.get("data"), dict) else {}
    if word == "emergencyResponse":
        return (word, str(inner["emergencyId"]), str(inner["action"]))
    if word == "emergencyStatusUpdate":
        return (word, str(inner["emergencyId"]), str(inner["phase"] or inner["status"]))
    return (word, str(inner["emergencyId"])) if word == "emergencyAlert" else (word,)


class Drill:
    """Every patient calls again and again; all crews are alerted, two want it, one gets it."""

    def __init__(self, url: str, patience_seconds: float, on_played: Callable[[], object]) -> None:
        self.url, self.patience_seconds, self.on_played = url, patience_seconds, on_played

    async def play(self, patients: Sequence[Player], crews: Sequence[Player], count: int) -> list[Played]:
        """Raises OSError, TimeoutError or WebSocketException where nobody can connect, Refused where the
        server lets nobody in."""
        async with contextlib.AsyncExitStack() as stack:
            callers = [await stack.enter_async_context(self._line(player)) for player in patients]
            called = [await stack.enter_async_context(self._line(player)) for player in crews]
            shares = [len(range(number, count, len(callers))) for number in range(len(callers))]
            turns = [
                self._calls(caller, called, share) for caller, share in zip(callers, shares, strict=True)
            ]
            return [played for turn in await asyncio.gather(*turns) for played in turn]

    def _line(self, player: Player) -> Deadline:
        return Deadline(player, self.url, self.patience_seconds)

    async def _calls(self, patient: Deadline, crews: Sequence[Deadline], count: int) -> list[Played]:
        return [await self._emergency(patient, crews) for _ in range(count)]

    async def _emergency(self, patient: Deadline, crews: Sequence[Deadline]) -> Played:
        played, began = Played(), time.monotonic()
        try:
            await self._through_all_steps(patient, crews, played, began)
        except (Refused, TimeoutError, ConnectionClosed) as lost:
            played.lost.append(f"an emergency of {patient.player.user_id} stopped: {lost or 'no answer'}")
        self.on_played()
        return played

    async def _through_all_steps(
        self, patient: Deadline, crews: Sequence[Deadline], played: Played, began: float
    ) -> None:
        def reached(step: str) -> None:
            played.seconds[step] = time.monotonic() - began

        emergency_id = await self._call(patient)
        await self._alerted(crews, emergency_id, played)
        reached("alert")
        winner = await self._accepted(crews, emergency_id)
        await patient.expect("emergencyResponse", emergency_id, "accept")
        reached("accept")
        for phase in WAY:
            update = {"emergencyId": emergency_id, "status": "in_progress", "phase": phase}
            await winner.ask("emergencyStatusUpdate", data=update)
            await patient.expect("emergencyStatusUpdate", emergency_id, phase)
            if phase == "onScene":
                reached("scene")
        handover = {"emergencyId": emergency_id, "status": "completed", "phase": "transferOfCare"}
        await winner.ask("emergencyStatusUpdate", data=handover)
        await patient.expect("emergencyStatusUpdate", emergency_id, "transferOfCare")
        repeated = [crew for crew in crews if crew.heard["emergencyAlert", emergency_id] > 1]
        played.lost += [f"{crew.player.user_id} was alerted twice" for crew in repeated]

    async def _call(self, patient: Deadline) -> str:
        lat, lng = (degrees + random.uniform(-0.05, 0.05) for degrees in SCENE)
        command = {
            "patientId": patient.player.user_id,
            "patientName": "Drill",
            "patientPhone": None,
            "hospitalId": patient.player.hospital_id,
            "location": {"lat": lat, "lng": lng, "address": None},
            "condition": "Drill: chest pain",
            "priority": random.choice(["low", "medium", "high", "critical"]),
            "vitals": {"pulse": random.randint(50, 140), "spo2": random.randint(88, 99)},
        }
        answer = await patient.ask("emergencyRequest", clientMessageId=new_id(), data=command)
        if answer["type"] != "ack":
            raise Refused(answer["code"])
        return str(answer["data"]["emergencyId"])

    async def _alerted(self, crews: Sequence[Deadline], emergency_id: str, played: Played) -> None:
        """Every crew must hear it."""
        waits = (crew.expect("emergencyAlert", emergency_id) for crew in crews)
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
        for crew, outcome in zip(crews, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                played.lost.append(f"{crew.player.user_id} never heard the alert")

    async def _accepted(self, crews: Sequence[Deadline], emergency_id: str) -> Deadline:
        """Two want it. Raises Refused where neither gets it."""
        wanting = random.sample(list(crews), min(2, len(crews)))
        command = {"emergencyId": emergency_id, "action": "accept", "estimatedArrival": "8 minutes"}
        answers = await asyncio.gather(*(crew.ask("emergencyResponse", data=command) for crew in wanting))
        for crew, answer in zip(wanting, answers, strict=True):
            if answer["type"] == "ack":
                return crew
        raise Refused("nobody could accept")
