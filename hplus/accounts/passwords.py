"""Passwords: comparing them, which takes half a second of a processor, and which ones are refused."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import password_validation
from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from hplus import errors
from hplus.accounts import login_throttle
from hplus.accounts.models import User
from hplus.api.lanes import give_back_connection
from hplus.protocol.texts import nfc

DEMO_PASSWORD = "hplus-demo"


class PasswordBackend(ModelBackend):
    """Django's own, behind the login throttle and without a database connection while it hashes."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        device_id: str = "",
        **_: Any,
    ) -> User | None:
        """Return the account with this password; an unknown userId takes as long as a known one.

        Raises RateLimited.
        """
        if username is None or password is None:
            return None
        username = nfc(username)
        attempt = login_throttle.begin(request or HttpRequest(), username, device_id)
        user = User.objects.with_id(username).first()
        give_back_connection()
        if self._is_right(user, password):
            login_throttle.succeed(attempt)
            return user
        login_throttle.fail(attempt)
        return None

    def _is_right(self, user: User | None, password: str) -> bool:
        if user is None:
            User().set_password(password)
            return False
        return user.check_password(password) and self.user_can_authenticate(user)


def check_new(user: User, password: str) -> None:
    """Raise ValidationFailed for a password that is too short, common, the demo's, or names the user."""
    try:
        password_validation.validate_password(password, user)
    except ValidationError as weak:
        reason = weak.error_list[0].code or "is too weak"
        raise errors.ValidationFailed(" ".join(weak.messages), field="password", reason=reason) from None


class NotTheDemosValidator:
    """Refuses the password that the demo's people have, which stands in the documentation."""

    def validate(self, password: str, user: User | None = None) -> None:
        if password.strip().lower() == DEMO_PASSWORD:
            raise ValidationError("This is the password of the demo.", code="password_of_the_demo")

    def get_help_text(self) -> str:
        return "Your password can't be the one of the demo."
