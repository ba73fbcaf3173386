"""`Authorization: Bearer` for REST."""

from __future__ import annotations

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.request import Request

from hplus import errors
from hplus.accounts import actions
from hplus.accounts.actions import Identity
from hplus.accounts.models import User


class BearerAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[User, Identity] | None:
        """Return the user, and the identity with its session as `request.auth`.

        Raises AuthenticationFailed, SessionRevoked or AccountDisabled.
        """
        scheme, _, secret = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        identity = actions.identify_by_token(secret.strip())
        if identity.is_by_ticket:
            raise errors.AuthenticationFailed("A ticket is for a handshake only.")
        return identity.user, identity

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class BearerScheme(OpenApiAuthenticationExtension):
    target_class = "hplus.accounts.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}
