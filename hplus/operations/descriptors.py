"""File descriptors: how many this process may have, and how many connections that allows."""

from __future__ import annotations

import logging
import resource

logger = logging.getLogger(__name__)
RESERVED = 128  # for the database, Redis, files, and connections that are just being ended
WITHOUT_LIMIT = 1_048_576


def limits() -> tuple[int, int]:
    """Return the limit in force, and the one up to which this process may raise it."""
    soft, hard = (
        WITHOUT_LIMIT if limit == resource.RLIM_INFINITY else limit
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    return soft, hard


def raise_limit() -> None:
    """Allow as many descriptors as the system lets this process have: each connection takes one."""
    soft, hard = limits()
    if soft >= hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as refused:
        logger.warning("The limit of file descriptors stays at %d: %s", soft, refused)


def most_connections(limit: int | None = None) -> int:
    """Return how many connections fit under this limit, or under the one in force."""
    return max(1, (limits()[0] if limit is None else limit) - RESERVED)
