"""Connections that the server cuts for what they did, or left undone: each is counted, some are logged."""

from __future__ import annotations

import logging
import time

from hplus.operations import metrics

logger = logging.getLogger(__name__)
LOG_SECONDS = 10  # between two lines of the same reason: a flood must not fill the log

_logged_at: dict[str, float] = {}


def note_cut(reason: str, address: str) -> None:
    metrics.connections_cut.labels(reason).inc()
    now = time.monotonic()
    if now - _logged_at.get(reason, -LOG_SECONDS) >= LOG_SECONDS:
        _logged_at[reason] = now
        logger.warning(
            "A connection from %s was cut: %s; hplus_connections_cut_total counts all", address, reason
        )
