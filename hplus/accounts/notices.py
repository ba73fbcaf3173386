"""Notices about one's own account. `settings.ACCOUNT_NOTICES` names the function that sends them."""

from __future__ import annotations

from django.conf import settings
from django.utils.module_loading import import_string


def password_changed(user_id: str) -> None:
    """Notify the person of a new password, on every device that signs in with it or is woken by a push."""
    _notify(
        user_id,
        "passwordChanged",
        "Your password was changed",
        "All devices were signed out. If it was not you, ask your administrator to lock the account.",
    )


def new_device(user_id: str, device_id: str) -> None:
    """Notify the person of a sign-in on a device that was not used before."""
    _notify(
        user_id,
        "newDevice",
        "Your account was opened on another device",
        "If it was not you, change your password: all devices are then signed out.",
        deviceId=device_id,
    )


def _notify(user_id: str, category: str, title: str, body: str, **data: str) -> None:
    send = import_string(settings.ACCOUNT_NOTICES)
    send([user_id], category=category, title=title, body=body, priority="urgent", data=data)
