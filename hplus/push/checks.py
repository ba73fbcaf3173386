"""The system check of the push sender; it runs at every start."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from hplus.push.senders import current_sender


@register()
def push_backend_is_usable(**_kwargs: Any) -> list[CheckMessage]:
    try:
        current_sender()
    except ImproperlyConfigured as wrong:
        return [Error(str(wrong), id="push.E001")]
    return []
