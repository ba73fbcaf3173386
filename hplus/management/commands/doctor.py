"""Look at everything HPlus needs, and say what to do about what is missing.

The examinations run side by side in threads of their own, so that what hangs is reported like
what fails: the answer is there within ten seconds, whatever the database or Redis do.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import threading
import time
import uuid
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import redis
from channels.layers import get_channel_layer
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from redis.backoff import NoBackoff
from redis.retry import Retry

from hplus.realtime.models import Connection, Presence, ServerProcess
from hplus.realtime.presence import DEAD_AFTER_SECONDS

PATIENCE_SECONDS = 6.0  # for all examinations; starting Python and Django comes on top
ROUND_TRIP_SECONDS = 3.0
SKEW_SECONDS = 1.0
OVERDUE_SECONDS = 10  # the duties in question are due every second and every five
FREE_BYTES = 1024**3
SECRET_KEY_LENGTH, SECRET_KEY_VARIETY = 50, 10


@dataclass(frozen=True)
class Finding:
    """How one thing is: `ok`, `warning` or `wrong`, and a sentence that says what to do."""

    status: str
    check: str
    says: str


ok, warning, wrong = (partial(Finding, status) for status in ("ok", "warning", "wrong"))
Examine = Callable[[], Iterator[Finding]]


class Examination(threading.Thread):
    """One part of HPlus. A daemon, so that a part which hangs does not keep the command from ending."""

    def __init__(self, name: str, examine: Examine) -> None:
        super().__init__(name=name, daemon=True)
        self.examine = examine
        self._findings: list[Finding] = []

    def run(self) -> None:
        try:
            for finding in self.examine():
                self._findings.append(finding)
        except Exception as trouble:
            self._findings.append(wrong(self.name, f"The examination ended early: {cause(trouble)}"))
        finally:
            connections.close_all()

    def findings(self, until: float) -> list[Finding]:
        """What was found up to that moment of the monotonic clock."""
        self.join(max(0, until - time.monotonic()))
        if not self.is_alive():
            return self._findings
        says = f"No answer within {PATIENCE_SECONDS:g} s. Look whether it hangs, and at the network between."
        return [*self._findings, wrong(self.name, says)]


def cause(trouble: BaseException) -> str:
    """One line; drivers write several, and some none."""
    text = " ".join(str(trouble).split())[:300]
    return f"{type(trouble).__name__}: {text}" if text else type(trouble).__name__


# The database


def examine_database() -> Iterator[Finding]:
    connect_directly()
    started = time.monotonic()
    try:
        theirs, ours = ask_time()
    except Exception as trouble:
        yield wrong(
            "database", f"Not reachable. Look at DATABASE_URL and at the server itself. {cause(trouble)}"
        )
        return
    yield ok("database", f"{product()} answers in {1000 * (time.monotonic() - started):.0f} ms.")
    yield about_clock((theirs - ours).total_seconds())
    if connections[DEFAULT_DB_ALIAS].vendor == "postgresql":
        yield from about_postgresql()
    elif not settings.DEBUG:
        yield warning("database.kind", "SQLite lets one write at a time. Set DATABASE_URL to a PostgreSQL.")
    missing = unapplied_migrations()
    if missing:
        yield wrong(
            "database.migrations", f"{len(missing)} not applied, first {missing[0]}. Run manage.py migrate."
        )
        return
    yield ok("database.migrations", "All applied.")
    yield about_writing()
    yield from about_duties()


def connect_directly() -> None:
    """This thread goes past the pool, which would say only that time is up, not why."""
    direct = connections[DEFAULT_DB_ALIAS].copy()
    direct.settings_dict["OPTIONS"].pop("pool", None)
    connections[DEFAULT_DB_ALIAS] = direct


def ask(question: str) -> Any:
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(question)
        return cursor.fetchone()[0]


def ask_time() -> tuple[datetime, datetime]:
    """The database's clock and, of the same moment, ours."""
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
    says = f"The database is {abs(ahead_seconds):.1f} s {which} this machine. Run NTP on both."
    # From here on servers on different machines take each other for dead.
    is_harmful = abs(ahead_seconds) >= DEAD_AFTER_SECONDS
    return wrong("database.clock", says) if is_harmful else warning("database.clock", says)


def about_postgresql() -> Iterator[Finding]:
    """Whether an answered commit survives a power failure, and any userId fits in."""
    for name, danger in [
        ("fsync", "a power failure can destroy the whole database"),
        ("full_page_writes", "a power failure can destroy pages of the database"),
        ("synchronous_commit", "a crash loses messages that were acknowledged"),
    ]:
        value = ask(f"SHOW {name}")
        says = f"{name} = off: {danger}. Set it to on." if value == "off" else f"{name} = {value}."
        yield (wrong if value == "off" else ok)(f"database.{name}", says)
    if (encoding := ask("SHOW server_encoding")) != "UTF8":
        yield wrong(
            "database.encoding", f"{encoding} can't hold every name. Make the database anew with UTF8."
        )


def unapplied_migrations() -> list[str]:
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    return [str(step) for step, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]


def about_writing() -> Finding:
    try:
        with transaction.atomic():
            ServerProcess.objects.create(host="doctor", pid=0)
            transaction.set_rollback(True)
    except Exception as trouble:
        return wrong(
            "database.write", f"Nothing can be stored. Is it a standby, or the disk full? {cause(trouble)}"
        )
    return ok("database.write", "A write succeeds (and was rolled back).")


# The duties: a worker leaves no trace but the work it does


def about_duties() -> Iterator[Finding]:
    now = timezone.now()
    servers = ServerProcess.objects.filter(seen_at__gte=now - timedelta(seconds=DEAD_AFTER_SECONDS))
    names = sorted(str(server) for server in servers)
    if names:
        sockets = Connection.objects.filter(server__in=servers).count()
        yield ok("servers", f"{len(names)} running ({', '.join(names[:10])}) with {sockets} sockets.")
    else:
        # A server gets its row with its first socket.
        yield warning("servers", "None has a socket. If none is running, start one with manage.py serve.")
    yield about_overdue(overdue(now), is_running=bool(names))


def overdue(now: datetime) -> int:
    """What a duty should have done by now: dead servers to clear away, people to say goodbye for."""
    due_by = now - timedelta(seconds=OVERDUE_SECONDS)
    dead = ServerProcess.objects.filter(seen_at__lt=due_by - timedelta(seconds=DEAD_AFTER_SECONDS))
    return dead.count() + Presence.objects.filter(offline_due_at__lt=due_by).count()


def about_overdue(count: int, is_running: bool) -> Finding:
    if not count:
        return ok("duties", "Nothing is overdue.")
    says = f"{count} overdue: nobody does what must happen on time. Start manage.py worker."
    return wrong("duties", says) if is_running else warning("duties", says)


# The channel layer


def examine_layer() -> Iterator[Finding]:
    if settings.REDIS_URL:
        try:
            yield from about_redis()
        except redis.RedisError as trouble:
            yield wrong(
                "redis", f"Not reachable. Look at REDIS_URL and at the server itself. {cause(trouble)}"
            )
            return
    elif not settings.DEBUG:
        yield warning("redis", "Without REDIS_URL only one process can serve, and a worker wakes nobody up.")
    try:
        seconds = asyncio.run(round_trip())
    except Exception as trouble:
        yield wrong(
            "layer", f"No round trip within {ROUND_TRIP_SECONDS:g} s. Restart Redis. {cause(trouble)}"
        )
    else:
        yield ok("layer", f"A message to a group arrives in {1000 * seconds:.0f} ms.")


def about_redis() -> Iterator[Finding]:
    patience = {"socket_timeout": 2, "socket_connect_timeout": 2, "retry": Retry(NoBackoff(), 0)}
    with redis.Redis.from_url(settings.REDIS_URL, **patience) as client:
        info: dict[str, Any] = client.info()
    yield ok("redis", f"Redis {info.get('redis_version', 'of unknown version')} answers.")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        yield ok("redis.eviction", "Nothing is evicted.")
    else:
        says = f"This Redis is set up as a cache ({policy}). Give HPlus one of its own with noeviction."
        yield warning("redis.eviction", says)


async def round_trip() -> float:
    """Seconds from a message to a group until it comes out of a real channel."""
    layer: Any = get_channel_layer()
    group = f"doctor.{uuid.uuid4().hex}"
    async with asyncio.timeout(ROUND_TRIP_SECONDS):
        channel = await layer.new_channel()
        await layer.group_add(group, channel)
        for _ in range(2):  # the first one also waits for the listener to get up
            started = time.monotonic()
            await layer.group_send(group, {"type": "doctor"})
            await layer.receive(channel)
        await layer.group_discard(group, channel)
    return time.monotonic() - started


# The settings


def examine_settings() -> Iterator[Finding]:
    yield about_mode()
    yield about_secret_key()
    yield about_hosts()
    yield about_attachments(Path(settings.MEDIA_ROOT).resolve(), Path(settings.STATIC_ROOT).resolve())


def about_mode() -> Finding:
    if settings.HPLUS_DEMO:
        says = "Demo mode: anybody gets in by name alone. With real patients unset HPLUS_DEMO and DEBUG."
        return (warning if settings.DEBUG else wrong)("settings.mode", says)
    if settings.DEBUG:
        return warning("settings.mode", "Whoever causes an error sees the inside of HPlus. Unset DEBUG.")
    return ok("settings.mode", "Neither DEBUG nor demo mode.")


def about_secret_key() -> Finding:
    key = settings.SECRET_KEY
    is_varied = len(set(key)) >= SECRET_KEY_VARIETY and "insecure" not in key
    if len(key) >= SECRET_KEY_LENGTH and is_varied:
        return ok("settings.secret_key", "Long and varied.")
    says = f"Weak: admin sessions can be forged. Set SECRET_KEY to {SECRET_KEY_LENGTH} random characters."
    return (warning if settings.DEBUG else wrong)("settings.secret_key", says)


def about_hosts() -> Finding:
    if "*" in settings.ALLOWED_HOSTS:
        says = "Any name is taken for ours. Set ALLOWED_HOSTS to the names HPlus is reached at."
        return warning("settings.allowed_hosts", says)
    return ok("settings.allowed_hosts", f"{', '.join(settings.ALLOWED_HOSTS)}.")


def about_attachments(media: Path, static: Path) -> Finding:
    if media.is_relative_to(static):
        says = f"Attachments in {media} are served to anybody. Move MEDIA_ROOT out of {static}."
        return wrong("settings.media_root", says)
    there = next(place for place in (media, *media.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"doctor")
    except OSError as trouble:
        says = f"Attachments can't be stored in {media}. Make it writable or set MEDIA_ROOT. {cause(trouble)}"
        return wrong("settings.media_root", says)
    if (free := shutil.disk_usage(there).free) < FREE_BYTES:
        return warning("settings.media_root", f"Only {free // 1024**2} MiB are free in {there}. Make room.")
    return ok("settings.media_root", f"{media} can be written to.")


EXAMINATIONS = {"settings": examine_settings, "database": examine_database, "layer": examine_layer}


class Command(BaseCommand):
    help = "Check the database, the channel layer and the settings, and say what to do."
    requires_system_checks: list[str] = []  # a patient who can't stand may see the doctor too

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = examine_everything()
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings]))
        else:
            self._tell(findings)
        if bad := sum(finding.status == "wrong" for finding in findings):
            raise CommandError(f"{bad} of {len(findings)} things are wrong.")

    def _tell(self, findings: list[Finding]) -> None:
        style = {"ok": self.style.SUCCESS, "warning": self.style.WARNING, "wrong": self.style.ERROR}
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            status = style[finding.status](f"{finding.status:<8}")
            self.stdout.write(f"{status} {finding.check:<{width}}  {finding.says}")
        self.stdout.flush()


def examine_everything() -> list[Finding]:
    """All findings within PATIENCE_SECONDS."""
    until = time.monotonic() + PATIENCE_SECONDS
    examinations = [Examination(name, examine) for name, examine in EXAMINATIONS.items()]
    for examination in examinations:
        examination.start()
    return [finding for examination in examinations for finding in examination.findings(until)]
