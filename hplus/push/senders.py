"""Push senders, chosen by the setting HPLUS_PUSH_BACKEND, like Django's e-mail backends.

A sender takes a list of pushes and returns for each None, or the error that kept it from being sent:
`Unregistered` disables the device, `Refused` gives the push up, any other error is tried again.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from hplus.protocol import wire
from hplus.push.models import PushOutbox

logger = logging.getLogger(__name__)
TIMEOUT_SECONDS = 10


class Rejected(Exception):
    """Permanent failure: not tried again. `code` is the push service's error code."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class Unregistered(Rejected):
    """The push service no longer knows this token."""


class Refused(Rejected):
    """The push service will never accept this push."""


class Sender(Protocol):
    def send_each(self, pushes: Sequence[PushOutbox]) -> list[Exception | None]: ...


def current_sender() -> Sender:
    """Return the configured sender, made once per process. Raises ImproperlyConfigured."""
    return _sender(settings.HPLUS_PUSH_BACKEND)


@functools.cache
def _sender(path: str) -> Sender:
    try:
        backend = import_string(path)
    except (ImportError, ValueError):
        backend = None
    if not hasattr(backend, "send_each"):
        raise ImproperlyConfigured(
            "HPLUS_PUSH_BACKEND must be the path of a sender such as"
            f" hplus.push.senders.ConsolePush, not {path!r}."
        )
    sender: Sender = backend()
    return sender


class ConsolePush:
    """Writes each push to the log: for development, and where no push service is used."""

    def send_each(self, pushes: Sequence[PushOutbox]) -> list[Exception | None]:
        for push in pushes:
            logger.info("Push to device %s: %s", push.device_id, wire.encode(push.content()).decode())
        return [None] * len(pushes)


class FcmPush:
    """Firebase Cloud Messaging, HTTP v1; reaches Android, iOS (over APNs) and browsers.

    Needs `requirements-push.txt`, and GOOGLE_APPLICATION_CREDENTIALS with the path of the
    service account's key file.
    """

    def __init__(self) -> None:
        try:
            import firebase_admin
            from firebase_admin import messaging
        except ImportError:
            raise ImproperlyConfigured(
                "HPLUS_PUSH_BACKEND is FcmPush, which needs firebase-admin:"
                " pip install -r requirements-push.txt."
            ) from None
        self._messaging = messaging
        self._app = firebase_admin.initialize_app(
            options={"httpTimeout": TIMEOUT_SECONDS}, name=wire.new_id()
        )
        self._check_credentials()

    def _check_credentials(self) -> None:
        from google.auth.exceptions import DefaultCredentialsError

        try:
            project = self._app.project_id
        except DefaultCredentialsError:
            project = None
        if not project:
            raise ImproperlyConfigured(
                "HPLUS_PUSH_BACKEND is FcmPush, which needs GOOGLE_APPLICATION_CREDENTIALS:"
                " the path of a Firebase service account's key file."
            )

    def send_each(self, pushes: Sequence[PushOutbox]) -> list[Exception | None]:
        batch = self._messaging.send_each([self._message(push) for push in pushes], app=self._app)
        return [self._error_of(response.exception) for response in batch.responses]

    def _message(self, push: PushOutbox) -> Any:
        """Make a high-priority message with a visible alert.

        The alert's text comes from the app's own strings, with the category as their key.
        """
        fcm = self._messaging
        alert = fcm.ApsAlert(loc_key=push.category)
        return fcm.Message(
            token=push.device.token,
            data=push.content(),
            android=fcm.AndroidConfig(priority="high", ttl=timedelta(seconds=settings.PUSH_TTL_SECONDS)),
            apns=fcm.APNSConfig(
                headers={"apns-priority": "10", "apns-push-type": "alert"},
                payload=fcm.APNSPayload(aps=fcm.Aps(alert=alert, sound="default", content_available=True)),
            ),
        )

    def _error_of(self, error: Any) -> Exception | None:
        from firebase_admin.exceptions import InvalidArgumentError

        fcm = self._messaging
        if isinstance(error, (fcm.UnregisteredError, fcm.SenderIdMismatchError)):
            return Unregistered(str(error.code))
        if isinstance(error, InvalidArgumentError):
            return Refused(str(error.code))
        return error
