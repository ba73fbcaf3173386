"""How long a statement may take and wait for a lock: by what a thread is there for.

A server's threads work for requests, those of its jobs for jobs, and a command has all the time, like
`migrate`. Each kind has connections of its own, which get their limits when they are opened, so that no
transaction pays for them. Behind a pooler that gives a server's connection for one transaction only, such as
pgbouncer, a session keeps no settings: there each transaction begins with them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from django.conf import settings

COMMAND, JOB, REQUEST = "command", "job", "request"


class _Kinds(threading.local):
    of_thread: str | None = None


_kinds = _Kinds()
_of_process = COMMAND


def serve_requests(is_serving: bool = True) -> None:
    """From now on all threads of this process work for requests, but for those that say something else."""
    global _of_process
    _of_process = REQUEST if is_serving else COMMAND


@contextlib.contextmanager
def working_for(kind: str) -> Iterator[None]:
    """Work for this kind in this thread; to be entered before it has a connection."""
    before, _kinds.of_thread = _kinds.of_thread, kind
    try:
        yield
    finally:
        _kinds.of_thread = before


def current_kind() -> str:
    return _kinds.of_thread or _of_process


def limits_of(kind: str) -> dict[str, int]:
    """Return the milliseconds of each setting of PostgreSQL that limits this kind of work."""
    limits: dict[str, int] = settings.DATABASE_LIMITS.get(kind, {})
    return limits
