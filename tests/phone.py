"""A phone in a test: a plain WebSocket client that remembers what it heard.

async with hospital.phone("patient_123", "patient") as phone:
    await phone.send("joinChatRoom", receiverId="doctor_123", hospitalId="hospital_001")
    joined = await phone.expect("chatRoomJoined")
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import quote

import websockets
from websockets.asyncio.client import ClientConnection, connect

from tests.waiting import PATIENCE_SECONDS

Frame = dict[str, Any]
_numbers = itertools.count(1)


class Phone:
    """Holds one socket. What is expected is taken out of `frames`; the rest stays there to be looked at."""

    def __init__(self, url: str, headers: dict[str, str] | None = None, **query: Any) -> None:
        given = {name: value for name, value in query.items() if value is not None}
        self.url = url + (
            "?" + "&".join(f"{n}={quote(str(v), safe='')}" for n, v in given.items()) if given else ""
        )
        self.headers = headers or {}
        self.user_id = str(query.get("userId", ""))
        self.frames: list[Frame] = []
        self.history: list[Frame] = []
        self.close_code: int | None = None
        self._socket: ClientConnection
        self._news = asyncio.Condition()
        self._reading: asyncio.Task[None]

    async def open(self) -> Self:
        """Shake hands, and nothing more: the server's first word is still to come."""
        self._socket = await connect(
            self.url,
            additional_headers=self.headers,
            compression=None,
            max_size=None,
            open_timeout=PATIENCE_SECONDS,
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aenter__(self) -> Self:
        await self.open()
        try:
            self.established = await self.expect("connection_established")
        except BaseException:
            await self.hang_up()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.hang_up()

    async def hang_up(self, code: int = 1000) -> None:
        await self._socket.close(code)
        await self._reading

    async def vanish(self) -> None:
        """As in a tunnel: the connection is gone without a close frame."""
        self._socket.transport.abort()
        await self._reading

    async def _read(self) -> None:
        with contextlib.suppress(websockets.ConnectionClosedError):  # the close code says how
            async for text in self._socket:
                await self._note(json.loads(text))
        async with self._news:
            self.close_code = self._socket.close_code
            self._news.notify_all()

    async def _note(self, frame: Frame) -> None:
        async with self._news:
            self.frames.append(frame)
            self.history.append(frame)
            self._news.notify_all()

    # Speaking

    async def send(self, type: str, **fields: Any) -> None:
        await self.send_text(json.dumps({"type": type, **fields}))

    async def send_text(self, text: str | bytes) -> None:
        await self._socket.send(text)

    async def ask(self, type: str, **fields: Any) -> Frame:
        """Send with a requestId, and the `ack` or `error` that answers it."""
        request_id = f"ask-{next(_numbers)}"
        await self.send(type, requestId=request_id, **fields)
        return await self.expect_that(
            lambda frame: frame["type"] in ("ack", "error") and frame.get("requestId") == request_id,
            f"an answer to {type}",
        )

    async def flood(self, type: str, *, pause_seconds: float = 0, **fields: Any) -> int:
        """Send again and again until the server closes the connection; the close code."""
        with contextlib.suppress(websockets.ConnectionClosed):
            while self.close_code is None:
                await self.send(type, **fields)
                await asyncio.sleep(pause_seconds)  # the close has to be read, too
        return await self.expect_close()

    # Listening

    async def expect(self, type: str, /, **fields: Any) -> Frame:
        """The first frame of this type with these fields (under `data` or flat); others stay."""

        def fits(frame: Frame) -> bool:
            inner = frame.get("data") if isinstance(frame.get("data"), dict) else {}
            return frame["type"] == type and all(
                frame.get(name, inner.get(name)) == value for name, value in fields.items()
            )

        return await self.expect_that(fits, f"{type} {fields}")

    async def expect_that(self, fits: Callable[[Frame], bool], wanted: str) -> Frame:

        def there() -> bool:
            return any(map(fits, self.frames)) or self.close_code is not None

        async with self._news:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait_for(there), PATIENCE_SECONDS)
            for frame in self.frames:
                if fits(frame):
                    self.frames.remove(frame)
                    return frame
        raise AssertionError(
            f"{self.user_id} waited for {wanted}; closed with {self.close_code}; heard {self.types()}"
        )

    async def expect_error(self, code: str, **fields: Any) -> Frame:
        return await self.expect("error", code=code, **fields)

    async def expect_close(self) -> int:
        """The close code."""
        await asyncio.wait_for(asyncio.shield(self._reading), PATIENCE_SECONDS)
        assert self.close_code is not None
        return self.close_code

    async def echo(self) -> None:
        """A question with an answer, behind everything sent before: whatever was to come has come."""
        await self.ask("joinHospital", hospitalId=self.established["hospitalId"] or "hospital_001")

    def heard(self, type: str) -> list[Frame]:
        """What has come of this type since the beginning, taken or not."""
        return [frame for frame in self.history if frame["type"] == type]

    def types(self) -> list[str]:
        return [frame["type"] for frame in self.frames]
