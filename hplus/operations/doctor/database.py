"""Checks of the database: reachable, durable, migrated, and whether the periodic jobs run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.utils import timezone

from emergency.attention import faults, open_count
from hplus.operations.doctor.findings import Finding, cause, ok, warning, wrong
from hplus.operations.late_jobs import description
from hplus.operations.readiness import schema_fault
from hplus.realtime.hub.presence import DEAD_AFTER_SECONDS
from hplus.realtime.models import Connection, JobState, Presence, ServerProcess

SKEW_SECONDS = 1.0
OVERDUE_SECONDS = 10  # the jobs looked at run every second and every five


def examine_database() -> Iterator[Finding]:
    connect_directly()
    started = time.monotonic()
    try:
        theirs, ours = ask_time()
    except Exception as failure:
        yield wrong(
            "database", f"Not reachable. Look at DATABASE_URL and at the server itself. {cause(failure)}"
        )
        return
    yield ok("database", f"{product()} answers in {1000 * (time.monotonic() - started):.0f} ms.")
    yield about_clock((theirs - ours).total_seconds())
    if connections[DEFAULT_DB_ALIAS].vendor == "postgresql":
        yield from about_postgresql()
    elif not settings.DEBUG:
        yield warning("database.kind", "SQLite lets one write at a time. Set DATABASE_URL to a PostgreSQL.")
    if fault := schema_fault():
        yield wrong("database.migrations", fault)
        return
    yield ok("database.migrations", "All applied.")
    yield about_writing()
    yield from about_jobs()


def connect_directly() -> None:
    """Connect this thread without the pool, whose timeout would hide the cause of a failure."""
    direct = connections[DEFAULT_DB_ALIAS].copy()
    direct.settings_dict["OPTIONS"].pop("pool", None)
    connections[DEFAULT_DB_ALIAS] = direct


def ask(statement: str) -> Any:
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def ask_time() -> tuple[datetime, datetime]:
    """Return the time of the database and, for the same moment, that of this machine."""
    connections[DEFAULT_DB_ALIAS].ensure_connection()
    before = timezone.now()
    if connections[DEFAULT_DB_ALIAS].vendor != "postgresql":
        ask("SELECT 1")
        return before, before
    theirs = ask("SELECT clock_timestamp()")
    return theirs, before + (timezone.now() - before) / 2


def product() -> str:
    if connections[DEFAULT_DB_ALIAS].vendor == "postgresql":
        return f"PostgreSQL {ask('SHOW server_version')}"
    return f"SQLite {ask('SELECT sqlite_version()')}"


def about_clock(ahead_seconds: float) -> Finding:
    if abs(ahead_seconds) < SKEW_SECONDS:
        return ok("database.clock", "Database and this machine have the same time.")
    which = "ahead of" if ahead_seconds > 0 else "behind"
    message = f"The database is {abs(ahead_seconds):.1f} s {which} this machine. Run NTP on both."
    # With more skew than this, servers on different machines declare each other dead.
    is_harmful = abs(ahead_seconds) >= DEAD_AFTER_SECONDS
    return wrong("database.clock", message) if is_harmful else warning("database.clock", message)


def about_postgresql() -> Iterator[Finding]:
    """Whether a commit survives a power failure, and every userId can be stored."""
    for name, danger in [
        ("fsync", "a power failure can destroy the whole database"),
        ("full_page_writes", "a power failure can destroy pages of the database"),
        ("synchronous_commit", "a crash loses messages that were acknowledged"),
    ]:
        value = ask(f"SHOW {name}")
        message = f"{name} = off: {danger}. Set it to on." if value == "off" else f"{name} = {value}."
        yield (wrong if value == "off" else ok)(f"database.{name}", message)
    if is_pooled() and settings.HPLUS_PREPARED_STATEMENTS:
        message = "A pooler is in between. In transaction mode it takes HPLUS_PREPARED_STATEMENTS=0."
        yield warning("database.pooler", message)
    if (encoding := ask("SHOW server_encoding")) != "UTF8":
        yield wrong(
            "database.encoding", f"{encoding} can't store every name. Recreate the database with UTF8."
        )


def is_pooled() -> bool:
    """Whether a pooler answers, which says of itself another process than the one it uses."""
    opened: Any = connections[DEFAULT_DB_ALIAS].connection
    return bool(opened.info.backend_pid != ask("SELECT pg_backend_pid()"))


def about_writing() -> Finding:
    try:
        with transaction.atomic():
            ServerProcess.objects.create(host="doctor", pid=0)
            transaction.set_rollback(True)
    except Exception as failure:
        return wrong(
            "database.write", f"Nothing can be stored. Is it a standby, or the disk full? {cause(failure)}"
        )
    return ok("database.write", "A write succeeds (and was rolled back).")


# Periodic jobs: whether a worker runs shows only in the rows it changes


def about_jobs() -> Iterator[Finding]:
    now = timezone.now()
    servers = ServerProcess.objects.filter(seen_at__gte=now - timedelta(seconds=DEAD_AFTER_SECONDS))
    names = sorted(str(server) for server in servers)
    if names:
        count = Connection.objects.filter(server__in=servers).count()
        yield ok("servers", f"{len(names)} running ({', '.join(names[:10])}) with {count} connections.")
    else:
        # A server registers with its first connection.
        yield warning("servers", "None has a connection. If none is running, start one with manage.py serve.")
    yield about_overdue(overdue(now), is_running=bool(names))
    yield about_late_jobs(now, is_running=bool(names))
    yield about_emergencies(now)


def overdue(now: datetime) -> int:
    """Count what the jobs should have done by now: dead servers to delete, users to mark offline."""
    due_by = now - timedelta(seconds=OVERDUE_SECONDS)
    dead = ServerProcess.objects.filter(seen_at__lt=due_by - timedelta(seconds=DEAD_AFTER_SECONDS))
    return dead.count() + Presence.objects.filter(offline_due_at__lt=due_by).count()


def about_overdue(count: int, is_running: bool) -> Finding:
    if not count:
        return ok("jobs", "Nothing is overdue.")
    message = f"{count} overdue: no worker runs the periodic jobs. Start manage.py worker."
    return wrong("jobs", message) if is_running else warning("jobs", message)


def about_late_jobs(now: datetime, is_running: bool) -> Finding:
    late = [description(state, now) for state in JobState.objects.late(now)]
    if not late:
        return ok("jobs.late", "Each has been done in time.")
    message = f"{'; '.join(late)}. Look into the worker's log, and restart the worker where one hangs."
    return wrong("jobs.late", message) if is_running else warning("jobs.late", message)


def about_emergencies(now: datetime) -> Finding:
    """Whether every open emergency has a next deadline, and none has passed unnoticed."""
    found = list(faults(now))
    if not found:
        return ok("emergencies", f"{open_count()} open, and each has its next deadline.")
    shown = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
    return wrong("emergencies", f"{shown}. Call these people, and start manage.py worker.")
