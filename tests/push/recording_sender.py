"""A sender that keeps what it is given, as Django's locmem e-mail backend does."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from hplus.push.models import PushOutbox
from tests.waiting import PATIENCE_SECONDS

sent: list[tuple[str, dict[str, str]]] = []
is_open = threading.Event()  # while it is not, a sender waits
is_waiting = threading.Event()


class RecordingSender:
    def send_each(self, pushes: Sequence[PushOutbox]) -> list[Exception | None]:
        is_waiting.set()
        assert is_open.wait(PATIENCE_SECONDS)
        sent.extend((push.device.token, push.content()) for push in pushes)
        return [None] * len(pushes)
