"""What `manage.py check`, and so every start, says about the sender of pushes."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from hplus.push.senders import current_sender


@register()
def pushes_can_be_sent(**_kwargs: Any) -> list[CheckMessage]:
    try:
        current_sender()
    except ImproperlyConfigured as wrong:
        return [Error(str(wrong), id="push.E001")]
    return []
