"""Comparing passwords, which takes half a second of a processor each time."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

from hplus.accounts.models import User
from hplus.api.lanes import give_back_connection


class PasswordBackend(ModelBackend):
    """Django's own, but the database connection goes back to the others before the password is hashed."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **_: Any
    ) -> User | None:
        """Return the account with this password; an unknown userId takes as long as a known one."""
        if username is None or password is None:
            return None
        user = User.objects.with_id(username).first()
        give_back_connection()
        if user is None:
            User().set_password(password)
            return None
        return user if user.check_password(password) and self.user_can_authenticate(user) else None
