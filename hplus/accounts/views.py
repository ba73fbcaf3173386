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

from hplus.accounts import actions
from hplus.accounts.actions import Tokens
from hplus.api.answers import shaped
from hplus.api.openapi import described
from hplus.api.requests import body_of
from hplus.protocol import wire

Secret = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class SignIn(wire.Shape):
    """The userId and password to sign in with."""

    user_id: wire.Id
    password: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    device_id: wire.OptionalId = None


class Renewal(wire.Shape):
    """The refresh token, which is used up."""

    refresh: Secret


class SignOut(wire.Shape):
    """Which sessions to end: this one, that of one device, or all."""

    device_id: wire.OptionalId = None
    all_devices: bool = False


class TokenPair(wire.Shape):
    """An access token for the socket and the API, and a refresh token to renew it."""

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
    """A ticket for one handshake within a minute, given as `?token=`."""

    ticket: str


class SignInView(APIView):
    permission_classes = [AllowAny]
    authentication_classes: list[type] = []

    @described(SignIn, TokenPair)
    def post(self, request: Request) -> Response:
        """Open a session on a device.

        Send the same `deviceId` each time: a device on which the person has signed in before is not held up
        when others guess the password.
        """
        body = body_of(request, SignIn)
        http_request: HttpRequest = request._request
        tokens = actions.sign_in(body.user_id, body.password, body.device_id or "", http_request)
        return shaped(TokenPair.of(tokens))


class RefreshView(APIView):
    permission_classes = [AllowAny]
    authentication_classes: list[type] = []

    @described(Renewal, TokenPair)
    def post(self, request: Request) -> Response:
        """Exchange a refresh token for new tokens; the access token before ends with it.

        The same one again within 60 seconds, while neither of the new tokens was used, gets the same answer:
        the first may have been lost. Later a second use ends the session.
        """
        tokens = actions.refresh(body_of(request, Renewal).refresh)
        return shaped(TokenPair.of(tokens))


class SignOutView(APIView):
    @described(SignOut, None)
    def post(self, request: Request) -> Response:
        """End this session, that of one device, or all."""
        body = body_of(request, SignOut)
        actions.sign_out(request.auth, device_id=body.device_id or "", all_devices=body.all_devices)
        return Response(status=204)


class TicketView(APIView):
    @described(None, Ticket)
    def post(self, request: Request) -> Response:
        """Make a ticket for one handshake, for clients that cannot set a header."""
        return shaped(Ticket(ticket=actions.issue_ticket(request.auth)))
