"""Signing in and out over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from django.http import HttpRequest
from pydantic import StringConstraints
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hplus import errors
from hplus.accounts import actions
from hplus.accounts.actions import Identity, Tokens
from hplus.api.answers import shaped
from hplus.api.openapi import described
from hplus.api.requests import body_of
from hplus.protocol import wire

Secret = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class SignIn(wire.Shape):
    """Who I am, and the password."""

    user_id: wire.Id
    password: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    device_id: wire.OptionalId = None


class Renewal(wire.Shape):
    """The refresh token of before; it is used up."""

    refresh: Secret


class SignOut(wire.Shape):
    """From this session, from one device, or from all."""

    device_id: wire.OptionalId = None
    all_devices: bool = False


class TokenPair(wire.Shape):
    """What to connect with, and what to renew it with."""

    access: str
    refresh: str
    expires_at: datetime
    user_id: str
    role: str
    hospital_id: str | None

    @classmethod
    def of(cls, tokens: Tokens) -> TokenPair:
        user = tokens.user
        return cls(
            access=tokens.access,
            refresh=tokens.refresh,
            expires_at=tokens.expires_at,
            user_id=user.user_id,
            role=user.role,
            hospital_id=user.hospital_id,
        )


class Ticket(wire.Shape):
    """For one handshake within a minute, as `?token=`."""

    ticket: str


class SignInView(APIView):
    permission_classes = [AllowAny]
    authentication_classes: list[type] = []

    @described(SignIn, TokenPair)
    def post(self, request: Request) -> Response:
        """Open a session on a device."""
        asked = body_of(request, SignIn)
        http: HttpRequest = request._request
        tokens = actions.sign_in(asked.user_id, asked.password, asked.device_id or "", http)
        return shaped(TokenPair.of(tokens))


class RefreshView(APIView):
    permission_classes = [AllowAny]
    authentication_classes: list[type] = []

    @described(Renewal, TokenPair)
    def post(self, request: Request) -> Response:
        """New tokens; the old refresh token is used up, and one that comes twice ends its session."""
        tokens = actions.refresh(body_of(request, Renewal).refresh)
        return shaped(TokenPair.of(tokens))


class SignOutView(APIView):
    @described(SignOut, None)
    def post(self, request: Request) -> Response:
        """End this session, that of one device, or all."""
        asked = body_of(request, SignOut)
        identity = Identity(request.user, request.auth)
        actions.sign_out(identity, device_id=asked.device_id or "", all_devices=asked.all_devices)
        return Response(status=204)


class TicketView(APIView):
    @described(None, Ticket)
    def post(self, request: Request) -> Response:
        """A ticket for one handshake, where no header can be set."""
        if request.auth is None:
            raise errors.AuthenticationFailed("A ticket needs a session.")
        return shaped(Ticket(ticket=actions.issue_ticket(request.auth)))
