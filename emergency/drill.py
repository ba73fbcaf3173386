"""A drill: simulated patients and crews go through emergencies over real connections."""

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
PHASES = ("enRoute", "onScene", "atPatient", "transporting", "atDestination")


@dataclass(frozen=True)
class Player:
    """A simulated user; without a token the query identifies it (demo mode)."""

    user_id: str
    role: str
    hospital_id: str
    token: str = ""

    def address(self, url: str) -> str:
        """Return the URL of the connection, with the query that names user, role and hospital."""
        query = {"userId": self.user_id, "role": self.role}
        if self.role != "patient":
            query["hospitalId"] = self.hospital_id
        return f"{url}?{urlencode(query)}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


@dataclass
class PlayedEmergency:
    """The result of one emergency: seconds from the call to each step, and the events that never came."""

    seconds: dict[str, float] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


class Refused(Exception):
    """The server refused what the drill needs."""


class DrillClient:
    """One connection. A frame is awaited by its key; it may have come before."""

    def __init__(self, player: Player, url: str, patience_seconds: float) -> None:
        self.player, self.url, self.patience_seconds = player, url, patience_seconds
        self.received: Counter[Key] = Counter()
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
        with contextlib.suppress(ConnectionClosed):  # what is awaited then counts as lost
            async for text in self._socket:
                self._receive(json.loads(text))

    def _receive(self, frame: Frame) -> None:
        key = _key(frame)
        self.received[key] += 1
        if frame["type"] == "error" and not self.received[ESTABLISHED]:
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
        """Wait for the frame with this key. Raises TimeoutError."""
        return await asyncio.wait_for(asyncio.shield(self._future(key)), self.patience_seconds)

    async def ask(self, type: str, **fields: Any) -> Frame:
        """Send a request and return its `ack` or `error`; after RATE_LIMITED send it again when allowed."""
        while True:
            request_id = new_id()
            frame = {"type": type, "requestId": request_id, **fields}
            await self._socket.send(json.dumps(frame))
            answer = await self.expect("answer", request_id)
            if answer.get("code") != "RATE_LIMITED":
                return answer
            await asyncio.sleep(float(answer["retryAfter"]))


def _key(frame: Frame) -> Key:
    """What a frame is awaited by: its type, and the ids that tell it from others of that type."""
    event_type = str(frame["type"])
    if event_type in ("ack", "error"):
        return ("answer", str(frame.get("requestId")))
    inner = frame["data"] if isinstance(frame.get("data"), dict) else {}
    if event_type == "emergencyResponse":
        return (event_type, str(inner["emergencyId"]), str(inner["action"]))
    if event_type == "emergencyStatusUpdate":
        return (event_type, str(inner["emergencyId"]), str(inner["phase"] or inner["status"]))
    return (event_type, str(inner["emergencyId"])) if event_type == "emergencyAlert" else (event_type,)


class Drill:
    """Every patient calls for help again and again; all crews are alerted, two accept, one gets it."""

    def __init__(self, url: str, patience_seconds: float, on_played: Callable[[], object]) -> None:
        self.url, self.patience_seconds, self.on_played = url, patience_seconds, on_played

    async def play(
        self, patients: Sequence[Player], crews: Sequence[Player], count: int
    ) -> list[PlayedEmergency]:
        """Play so many emergencies and return their results.

        Raises OSError, TimeoutError or WebSocketException where no connection is possible, Refused where the
        server accepts none.
        """
        async with contextlib.AsyncExitStack() as stack:
            callers = [await stack.enter_async_context(self._client(player)) for player in patients]
            alerted = [await stack.enter_async_context(self._client(player)) for player in crews]
            shares = [len(range(number, count, len(callers))) for number in range(len(callers))]
            series = [
                self._play_one_by_one(caller, alerted, share)
                for caller, share in zip(callers, shares, strict=True)
            ]
            return [played for results in await asyncio.gather(*series) for played in results]

    def _client(self, player: Player) -> DrillClient:
        return DrillClient(player, self.url, self.patience_seconds)

    async def _play_one_by_one(
        self, patient: DrillClient, crews: Sequence[DrillClient], count: int
    ) -> list[PlayedEmergency]:
        return [await self._emergency(patient, crews) for _ in range(count)]

    async def _emergency(self, patient: DrillClient, crews: Sequence[DrillClient]) -> PlayedEmergency:
        played, began = PlayedEmergency(), time.monotonic()
        try:
            await self._through_all_steps(patient, crews, played, began)
        except (Refused, TimeoutError, ConnectionClosed) as lost:
            played.lost.append(f"an emergency of {patient.player.user_id} stopped: {lost or 'no answer'}")
        self.on_played()
        return played

    async def _through_all_steps(
        self, patient: DrillClient, crews: Sequence[DrillClient], played: PlayedEmergency, began: float
    ) -> None:
        def reached(step: str) -> None:
            played.seconds[step] = time.monotonic() - began

        emergency_id = await self._call(patient)
        await self._expect_alerts(crews, emergency_id, played)
        reached("alert")
        winner = await self._accept(crews, emergency_id)
        await patient.expect("emergencyResponse", emergency_id, "accept")
        reached("accept")
        for phase in PHASES:
            update = {"emergencyId": emergency_id, "status": "in_progress", "phase": phase}
            await winner.ask("emergencyStatusUpdate", data=update)
            await patient.expect("emergencyStatusUpdate", emergency_id, phase)
            if phase == "onScene":
                reached("scene")
        handover = {"emergencyId": emergency_id, "status": "completed", "phase": "transferOfCare"}
        await winner.ask("emergencyStatusUpdate", data=handover)
        await patient.expect("emergencyStatusUpdate", emergency_id, "transferOfCare")
        repeated = [crew for crew in crews if crew.received["emergencyAlert", emergency_id] > 1]
        played.lost += [f"{crew.player.user_id} was alerted twice" for crew in repeated]

    async def _call(self, patient: DrillClient) -> str:
        lat, lng = (degrees + random.uniform(-0.05, 0.05) for degrees in SCENE)
        request = {
            "patientId": patient.player.user_id,
            "patientName": "Drill",
            "patientPhone": None,
            "hospitalId": patient.player.hospital_id,
            "location": {"lat": lat, "lng": lng, "address": None},
            "condition": "Drill: chest pain",
            "priority": random.choice(["low", "medium", "high", "critical"]),
            "vitals": {"pulse": random.randint(50, 140), "spo2": random.randint(88, 99)},
        }
        answer = await patient.ask("emergencyRequest", clientMessageId=new_id(), data=request)
        if answer["type"] != "ack":
            raise Refused(answer["code"])
        return str(answer["data"]["emergencyId"])

    async def _expect_alerts(
        self, crews: Sequence[DrillClient], emergency_id: str, played: PlayedEmergency
    ) -> None:
        """Wait for the alert of every crew; record those that never come as lost."""
        waits = (crew.expect("emergencyAlert", emergency_id) for crew in crews)
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
        for crew, outcome in zip(crews, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                played.lost.append(f"{crew.player.user_id} never got the alert")

    async def _accept(self, crews: Sequence[DrillClient], emergency_id: str) -> DrillClient:
        """Let two crews accept at once; return the one that gets it. Raises Refused where neither does."""
        accepting = random.sample(list(crews), min(2, len(crews)))
        request = {"emergencyId": emergency_id, "action": "accept", "estimatedArrival": "8 minutes"}
        answers = await asyncio.gather(*(crew.ask("emergencyResponse", data=request) for crew in accepting))
        for crew, answer in zip(accepting, answers, strict=True):
            if answer["type"] == "ack":
                return crew
        raise Refused("nobody could accept")
