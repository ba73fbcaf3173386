"""Refusing a client kindly, and letting it say its token as the first message."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings
from django.utils import timezone

from hplus import errors, metrics, wire
from hplus.accounts.actions import Claim, Identity
from hplus.realtime import actions, messages
from hplus.realtime.door import HELD_PER_ADDRESS, door

Frame = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


async def refuse(send: Send, refusal: errors.Refusal, address: str) -> None:
    """Accept, say why, and hold the socket a second: the guide's client tries again at once."""
    door.held[address] += 1
    try:
        if door.held[address] > HELD_PER_ADDRESS:
            await asyncio.sleep(settings.REFUSED_SOCKET_SECONDS)
            await send({"type": "websocket.close", "code": 4101})
            return
        await send({"type": "websocket.accept"})
        await say_and_close(send, refusal)
    finally:
        door.held[address] -= 1
        if not door.held[address]:
            del door.held[address]


async def say_and_close(send: Send, refusal: errors.Refusal) -> None:
    """The error first, the close code a moment later, so that every client reads the error."""
    is_unknown_hospital = isinstance(refusal, errors.HospitalNotFound)
    code = refusal.close_code or (4007 if is_unknown_hospital else 1011)
    await send({"type": "websocket.send", "text": error_event(refusal).frame()})
    await asyncio.sleep(settings.REFUSED_SOCKET_SECONDS)
    await send({"type": "websocket.close", "code": code})


async def first_login(receive: Receive, send: Send, claim: Claim) -> Identity:
    """The token comes as the first message, or not at all.

    Raises AuthenticationFailed, also for anything that is no login, SessionRevoked or AccountDisabled.
    """
    try:
        event = await asyncio.wait_for(receive(), settings.LOGIN_SECONDS)
    except TimeoutError:
        raise errors.AuthenticationFailed("No login came.") from None
    login = _login_in(event.get("text") or "")
    identity = await door.one_by_one(actions.first_login, claim, login)
    await send({"type": "websocket.send", "text": actions.login_success(identity).frame()})
    return identity


def _login_in(text: str) -> messages.Login:
    try:
        frame = wire.parse(text)
        login = messages.Login.read(frame) if frame.get("type") == messages.Login.type else None
    except errors.Refusal as refusal:
        raise errors.AuthenticationFailed(refusal.message) from None
    if login is None:
        raise errors.AuthenticationFailed("The first message must be a login with a token.")
    return login


def error_event(refusal: errors.Refusal, frame: Frame | None = None) -> messages.Error:
    """The refusal as the client reads it."""
    asked = (frame or {}).get("type")
    request_id = wire.Request.fields_of(frame or {}).get("requestId")
    metrics.refusals.labels(refusal.code).inc()
    return messages.Error(
        code=refusal.code,
        message=refusal.message,
        request_type=asked[:100] if isinstance(asked, str) else None,
        request_id=request_id[:150] if isinstance(request_id, str) else None,
        details=refusal.details,
        timestamp=timezone.now(),
        retry_after=refusal.retry_after,
    )
