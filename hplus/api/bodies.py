"""Bodies of HTTP requests: refused by length and by counting before Django stores them anywhere."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from hplus import errors
from hplus.api.answers import error_body

UPLOAD_PATH = "/api/chat/attachments"
FORM_BYTES = 64 * 1024  # what multipart form data adds to the file in it
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class BodyLimit:
    """Wraps Django: 413 for a body that is too long, without reading the rest of it.

    A file is taken only with an Authorization header; everything else has at most DATA_UPLOAD_MAX_MEMORY_SIZE
    bytes. A body whose length is not announced (chunked, as Dart sends it) is collected first, because Django
    REST framework reads only bodies of a known length.
    """

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        limit = _most_bytes(scope["path"], headers)
        try:
            if b"transfer-encoding" in headers:
                body = await _collect(receive, limit)
                scope = {**scope, "headers": _with_length(scope["headers"], len(body))}
                await self.application(scope, _Replayed(body, receive), send)
                return
            _check(int(headers.get(b"content-length", b"0")), limit)
        except errors.MessageTooLarge as refusal:
            await _refuse(send, refusal)
            return
        await self.application(scope, receive, send)


def _most_bytes(path: str, headers: dict[bytes, bytes]) -> int:
    is_upload = path.rstrip("/") == UPLOAD_PATH and b"authorization" in headers
    return settings.ATTACHMENT_BYTES + FORM_BYTES if is_upload else settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise errors.MessageTooLarge(maxBytes=limit)


async def _collect(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises MessageTooLarge as soon as more has come."""
    body, more = bytearray(), True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
        _check(len(body), limit)
    return bytes(body)


class _Replayed:
    """Receives a body that was collected, then what comes after it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> dict[str, Any]:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def _with_length(headers: list[tuple[bytes, bytes]], size: int) -> list[tuple[bytes, bytes]]:
    others = [
        (name, value) for name, value in headers if name not in (b"transfer-encoding", b"content-length")
    ]
    return [*others, (b"content-length", str(size).encode())]


async def _refuse(send: Send, refusal: errors.Refusal) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": refusal.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(error_body(refusal)).encode()})
