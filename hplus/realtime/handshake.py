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
from hplus.realtime.answers import Answer
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


async def say_and_close(send: Send, refusal: errors.Refusal, frame: Frame | None = None) -> None:
    """The error first, the close code a moment later, so that every client reads the error."""
    is_unknown_hospital = isinstance(refusal, errors.HospitalNotFound)
    code = refusal.close_code or (4007 if is_unknown_hospital else 1011)
    await send({"type": "websocket.send", "text": error_event(refusal, frame).frame()})
    await asyncio.sleep(settings.REFUSED_SOCKET_SECONDS)
    await send({"type": "websocket.close", "code": code})


async def first_frame(receive: Receive) -> Frame:
    """What a client says that has yet to tell who it is. Raises AuthenticationFailed for what is no frame."""
    try:
        event = await asyncio.wait_for(receive(), settings.LOGIN_SECONDS)
        return wire.parse(event.get("text") or "")
    except TimeoutError:
        raise errors.AuthenticationFailed("No login came.") from None
    except errors.Refusal as refusal:
        raise errors.AuthenticationFailed(refusal.message) from None


async def first_login(send: Send, claim: Claim, frame: Frame) -> Identity:
    """The token comes as the first message, or not at all.

    Raises AuthenticationFailed, also for anything that is no login, SessionRevoked or AccountDisabled.
    """
    login = _login_in(frame)
    identity = await door.one_by_one(actions.first_login, claim, login)
    for said in (actions.login_success(identity), ack_of(login)):
        if said is not None:
            await send({"type": "websocket.send", "text": said.frame()})
    return identity


def _login_in(frame: Frame) -> messages.Login:
    if frame.get("type") != messages.Login.type:
        raise errors.AuthenticationFailed("The first message must be a login with a token.")
    try:
        return messages.Login.read(frame)
    except errors.Refusal as refusal:
        raise errors.AuthenticationFailed(refusal.message) from None


def ack_of(request: wire.Request, answer: Answer | None = None) -> messages.Ack | None:
    """That it is done, where the client wants to know."""
    if not request.request_id and not request.client_message_id:
        return None
    return messages.Ack(
        request_type=request.type,
        request_id=request.request_id,
        client_message_id=request.client_message_id,
        status="duplicate" if answer and answer.is_duplicate else "ok",
        data=answer.made if answer else None,
    )


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
