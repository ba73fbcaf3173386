"""What `manage.py check` says about the words: each is handled once, and only once."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.core.checks import CheckMessage, Error, register

from hplus.protocol import wire


@register()
def every_word_is_handled_once(**_kwargs: Any) -> list[CheckMessage]:
    from hplus.realtime.consumers import ConnectionConsumer
    from hplus.routing import HPlusConsumer

    consumers = [ConnectionConsumer, *HPlusConsumer.domains]
    handled = Counter(handler.request.type for consumer in consumers for handler in consumer.handlers)
    asked = {request.type for request in wire.subclasses(wire.Request)}
    twice = [Error(f"'{word}' is handled twice.", id="hplus.E001") for word, n in handled.items() if n > 1]
    never = [Error(f"'{word}' is never handled.", id="hplus.E002") for word in sorted(asked - handled.keys())]
    return [*twice, *never]
