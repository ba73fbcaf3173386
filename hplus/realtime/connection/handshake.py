"""The handshake: a refusal that every client can read, a login as the first message, acks and errors."""

from __future__ import annotations

import asyncio
from typing import Any

from django.conf import settings
from django.utils import timezone

from hplus import errors
from hplus.accounts.actions import Claim, Identity
from hplus.operations import metrics
from hplus.protocol import wire
from hplus.realtime import messages
from hplus.realtime.actions import Result
from hplus.realtime.connection import actions
from hplus.realtime.connection.admission import admission
from hplus.realtime.connection.transport import Receive, Send

Frame = dict[str, Any]


async def refuse(send: Send, refusal: errors.Refusal, address: str, shown: str = "") -> None:
    """Accept, send the error and hold the connection a second: the guide's client tries again at once.

    `shown` is what the client showed of who it is.
    """
    if not admission.held.has_room(address, shown):
        await asyncio.sleep(settings.REFUSED_SOCKET_SECONDS)
        await send({"type": "websocket.close", "code": 4101})
        return
    with admission.held.take(address, shown):
        await send({"type": "websocket.accept"})
        await send_error_and_close(send, refusal)


async def send_error_and_close(send: Send, refusal: errors.Refusal, frame: Frame | None = None) -> None:
    """Send the error, and the close code a second later, so that every client reads the error."""
    is_unknown_hospital = isinstance(refusal, errors.HospitalNotFound)
    code = refusal.close_code or (4007 if is_unknown_hospital else 1011)
    await send({"type": "websocket.send", "text": error_event(refusal, frame).frame().decode()})
    await asyncio.sleep(settings.REFUSED_SOCKET_SECONDS)
    await send({"type": "websocket.close", "code": code})


async def first_frame(receive: Receive) -> Frame:
    """Read the first frame of a client without a token. Raises AuthenticationFailed for what is no frame."""
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
    identity = await admission.run_queued(actions.first_login, claim, login)
    for said in (actions.login_success(identity), ack_of(login)):
        if said is not None:
            await send({"type": "websocket.send", "text": said.frame().decode()})
    return identity


def _login_in(frame: Frame) -> messages.Login:
    if frame.get("type") != messages.Login.type:
        raise errors.AuthenticationFailed("The first message must be a login with a token.")
    try:
        return messages.Login.read(frame)
    except errors.Refusal as refusal:
        raise errors.AuthenticationFailed(refusal.message) from None


def ack_of(request: wire.Request, result: Result | None = None) -> messages.Ack | None:
    """Return the acknowledgement, where the client wants one."""
    if not request.request_id and not request.client_message_id:
        return None
    return messages.Ack(
        request_type=request.type,
        request_id=request.request_id,
        client_message_id=request.client_message_id,
        status=result.status if result else "ok",
        data=result.ack_data if result else None,
    )


def error_event(refusal: errors.Refusal, frame: Frame | None = None) -> messages.Error:
    """Return the refusal as the client reads it."""
    asked = (frame or {}).get("type")
    fields = wire.Request.fields_of(frame or {})
    metrics.refusals.labels(refusal.code).inc()
    return messages.Error(
        code=refusal.code,
        message=refusal.message,
        request_type=asked[:100] if isinstance(asked, str) else None,
        request_id=_text(fields.get("requestId"), 150),
        client_message_id=_text(fields.get("clientMessageId"), 64),
        details=refusal.details,
        timestamp=timezone.now(),
        retry_after=refusal.retry_after,
    )


def _text(value: Any, most: int) -> str | None:
    return value[:most] if isinstance(value, str) else None
