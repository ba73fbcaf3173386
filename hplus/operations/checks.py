"""The system check that each request type has exactly one handler."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, register

from hplus.protocol import wire


@register()
def every_request_is_handled_once(**_kwargs: Any) -> list[CheckMessage]:
    from hplus.realtime.consumers import ConnectionConsumer
    from hplus.routing import HPlusConsumer

    consumers = [ConnectionConsumer, *HPlusConsumer.domains]
    handled = Counter(handler.request.type for consumer in consumers for handler in consumer.handlers)
    declared = {request.type for request in wire.subclasses(wire.Request) if _is_installed(request)}
    twice = [Error(f"'{type_}' is handled twice.", id="hplus.E001") for type_, n in handled.items() if n > 1]
    never = [
        Error(f"'{type_}' is never handled.", id="hplus.E002") for type_ in sorted(declared - handled.keys())
    ]
    return [*twice, *never]


def _is_installed(request: type[wire.Request]) -> bool:
    """Whether the class belongs to an installed app, not to a test."""
    return apps.get_containing_app_config(request.__module__) is not None
