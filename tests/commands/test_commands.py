"""The commands an operator uses: doctor, token, connections."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from django.conf import settings as project_settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from hplus import errors
from hplus.accounts import actions
from hplus.accounts.models import Session, User
from hplus.management.commands import connections
from hplus.management.commands import serve as serve_command
from hplus.operations import readiness
from hplus.operations.doctor import database
from hplus.operations.doctor.findings import Examination, Finding, ok
from hplus.realtime.channel_layer import prefix_of
from hplus.realtime.models import Connection, Installation, Presence, ServerProcess
from tests.servers import ROOT, ThreadServer
from tests.waiting import PATIENCE_SECONDS

Users = dict[str, User]
MANIFEST = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
# What a database that is thrown away after the tests may do without.
DURABILITY = {f"database.{name}" for name in ("fsync", "full_page_writes", "synchronous_commit")}


def run(*arguments: Any) -> str:
    """What the command prints."""
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


beside = database_sync_to_async(run)


# doctor


@pytest.fixture
def production_settings(transactional_db: None, settings: Any, tmp_path: Path) -> None:
    """As in production, where nobody gets in by name alone."""
    settings.DEBUG, settings.HPLUS_DEMO, settings.ALLOWED_HOSTS = False, False, ["hplus.example"]
    settings.STATIC_ROOT = tmp_path / "static"
    settings.STATIC_ROOT.mkdir()
    (settings.STATIC_ROOT / "staticfiles.json").touch()


def consult(*arguments: str) -> tuple[str, str]:
    """What the doctor prints, and what is complained about in the end."""
    out = StringIO()
    try:
        call_command("doctor", *arguments, stdout=out)
    except CommandError as complaint:
        return out.getvalue(), str(complaint)
    return out.getvalue(), ""


def diagnosis() -> dict[str, str]:
    """Each check's status. The command fails where, and only where, something is wrong."""
    printed, complaint = consult("--json")
    found = {finding["check"]: finding["status"] for finding in json.loads(printed)}
    bad = list(found.values()).count("wrong")
    assert complaint == (f"{bad} of {len(found)} things are wrong." if bad else "")
    return found


def shown(name: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return cursor.fetchone()[0]


def test_doctor_finds_nothing_wrong(production_settings: None) -> None:
    ServerProcess.objects.create(host="ward", pid=1)
    found = diagnosis()
    about_settings = ["mode", "secret_key", "allowed_hosts", "static_root", "media_root", "emergency_times"]
    about_database = ["clock", "migrations", "write"]
    assert {check for check, status in found.items() if status == "ok"} >= {
        *(f"settings.{name}" for name in about_settings),
        *(f"database.{name}" for name in about_database),
        *("database", "servers", "jobs", "emergencies", "layer"),
    }
    assert {check for check, status in found.items() if status == "wrong"} <= DURABILITY
    assert ServerProcess.objects.count() == 1  # the write left nothing behind


def test_doctor_prints_sentences(production_settings: None, settings: Any) -> None:
    settings.DEBUG = settings.HPLUS_DEMO = True
    lines = consult()[0].splitlines()
    assert any(line.startswith("warning  settings.mode") and "unset HPLUS_DEMO" in line for line in lines)
    assert any(line.startswith("warning  servers") and "manage.py serve" in line for line in lines)


def test_doctor_reports_that_no_server_runs_the_jobs(production_settings: None, users: Users) -> None:
    long_ago = timezone.now() - timedelta(minutes=1)
    Presence.objects.create(user=users["nurse_001"], offline_due_at=long_ago)
    found = diagnosis()
    assert (found["servers"], found["jobs"]) == ("warning", "warning")

    ServerProcess.objects.create(host="ward", pid=1)
    found = diagnosis()
    assert (found["servers"], found["jobs"]) == ("ok", "wrong")


def test_doctor_checks_the_settings(production_settings: None, settings: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings.SECRET_KEY, settings.ALLOWED_HOSTS = "hospital" * 10, ["*"]
    settings.MEDIA_ROOT = tmp_path / "file" / "attachments"
    settings.HPLUS_STALL_SECONDS = {**settings.HPLUS_STALL_SECONDS, "turnout": 1}
    found = diagnosis()
    assert found["settings.emergency_times"] == "warning", "those of a drill"
    assert (found["settings.secret_key"], found["settings.allowed_hosts"]) == ("wrong", "warning")
    assert found["settings.media_root"] == "wrong"

    settings.MEDIA_ROOT = settings.STATIC_ROOT / "attachments"
    assert diagnosis()["settings.media_root"] == "wrong"
    settings.MEDIA_ROOT = tmp_path / "made at the first upload"
    assert diagnosis()["settings.media_root"] == "ok"


def test_doctor_reports_missing_static_files(
    production_settings: None, settings: Any, tmp_path: Path
) -> None:
    settings.STATIC_ROOT = tmp_path / "collected"
    settings.STORAGES = settings.STORAGES | {"staticfiles": {"BACKEND": MANIFEST}}
    assert diagnosis()["settings.static_root"] == "wrong"
    assert "Run manage.py collectstatic" in consult()[0]
    run("collectstatic", "--noinput")
    assert diagnosis()["settings.static_root"] == "ok"


@pytest.mark.parametrize(
    ("ahead_seconds", "status"), [(0.2, "ok"), (-0.2, "ok"), (3, "warning"), (-3, "warning"), (-20, "wrong")]
)
def test_doctor_reports_clock_difference(ahead_seconds: float, status: str) -> None:
    assert database.about_clock(ahead_seconds).status == status


@pytest.mark.parametrize(("value", "status"), [("on", "ok"), ("off", "wrong")])
def test_doctor_warns_of_non_durable_commits(production_settings: None, value: str, status: str) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no such setting")
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER ROLE CURRENT_USER SET synchronous_commit = {value}")
    try:
        found = diagnosis()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER ROLE CURRENT_USER RESET synchronous_commit")
    assert found["database.synchronous_commit"] == status
    assert found["database.fsync"] == ("ok" if shown("fsync") == "on" else "wrong")


def test_doctor_warns_of_another_installation_on_the_same_redis(production_settings: None) -> None:
    if not project_settings.REDIS_URL:
        pytest.skip("without Redis there is one process")
    assert diagnosis()["redis.installations"] == "ok"
    with redis.Redis.from_url(project_settings.REDIS_URL) as client, client.pubsub() as server:
        for installation in ("of-another-hospital", Installation.current()):
            server.subscribe(f"{prefix_of(installation)}__group__persons")
            server.get_message(timeout=PATIENCE_SECONDS)
        printed, _ = consult()
    [line] = [line for line in printed.splitlines() if "redis.installations" in line]
    assert line.startswith("warning")
    assert "(of-another-hospital)" in line


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As a process of its own."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )


def see_doctor(**environment: str) -> tuple[int, dict[str, str]]:
    """Exit code, and each check's status."""
    done = manage("doctor", "--json", **environment)
    found = {finding["check"]: finding["status"] for finding in json.loads(done.stdout)}
    return done.returncode, found


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_doctor_does_not_wait_for_a_hanging_service(silent_port: int) -> None:
    """These never answer: that it ends is the proof."""
    code, found = see_doctor(
        DATABASE_URL=f"postgres://nobody@127.0.0.1:{silent_port}/hplus",
        REDIS_URL=f"redis://127.0.0.1:{silent_port}/0",
    )
    assert (code, found["database"], found["redis"]) == (1, "wrong", "wrong")


def test_doctor_reports_a_check_that_never_ends() -> None:
    hangs, may_end = threading.Event(), threading.Event()

    def hang() -> Iterator[Finding]:
        yield ok("first", "Fine.")
        hangs.set()
        may_end.wait(PATIENCE_SECONDS)

    examination = Examination("heart", hang)
    examination.start()
    assert hangs.wait(PATIENCE_SECONDS)
    found = examination.findings(until=time.monotonic())
    may_end.set()
    assert [(finding.check, finding.status) for finding in found] == [("first", "ok"), ("heart", "wrong")]


def test_doctor_reports_missing_migrations(tmp_path: Path) -> None:
    code, found = see_doctor(DATABASE_URL=f"sqlite:///{tmp_path / 'new.sqlite3'}", REDIS_URL="")
    assert (code, found["database"], found["database.migrations"]) == (1, "ok", "wrong")


@pytest.mark.parametrize("arguments", ["seed_demo", "token doctor_123", "connections --json", "verify_audit"])
def test_command_without_tables_prints_a_sentence(arguments: str, tmp_path: Path) -> None:
    ended = manage(*arguments.split(), DATABASE_URL=f"sqlite:///{tmp_path / 'new.sqlite3'}", REDIS_URL="")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines() == [ended.stderr.strip()]
    assert "no such table" in ended.stderr
    assert "manage.py doctor" in ended.stderr


# serve


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--port 70000", "--port: must be a number from 1 to 65535, not '70000'"),
        ("--port -1", "--port"),
        ("--port http", "--port: must be a number from 1 to 65535"),
        ("--workers 0", "--workers: must be a number from 1 to 64"),
        ("--workers many", "--workers: must be a number from 1 to 64"),
        ("--host nowhere.invalid", "nowhere.invalid port .* can't be used"),
    ],
)
def test_serve_refuses_settings_that_admit_nobody(
    transactional_db: None, arguments: str, complaint: str
) -> None:
    with pytest.raises(CommandError, match=complaint):
        run("serve", *arguments.split())


# token


def test_issued_token_is_accepted(users: Users) -> None:
    said = json.loads(run("token", "doctor_123", "--device", "ward tablet", "--json"))
    identity = actions.identify_by_token(said["access"])
    assert identity.session is not None
    assert (identity.user.pk, identity.session.device_id) == ("doctor_123", "ward tablet")
    assert {name: said[name] for name in ("userId", "role", "hospitalId")} == {
        "userId": "doctor_123",
        "role": "doctor",
        "hospitalId": "hospital_001",
    }
    assert actions.refresh(said["refresh"]).user.pk == "doctor_123"


def test_issued_token_can_be_short_lived(users: Users) -> None:
    said = json.loads(run("token", "doctor_123", "--hours", "0.5", "--json"))
    expires_at = actions.identify_by_token(said["access"]).expires_at
    assert expires_at == datetime.fromisoformat(said["expiresAt"])
    assert timedelta(minutes=29) < expires_at - datetime.now(UTC) <= timedelta(minutes=30)


def test_issued_token_is_printed_with_an_explanation(users: Users) -> None:
    arguments = dict(line.split() for line in run("token", "patient_123").splitlines())
    assert list(arguments) == ["access", "refresh", "expiresAt"]
    assert actions.identify_by_token(arguments["access"]).user.pk == "patient_123"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nobody"], "There is no user 'nobody'."),
        (["nurse_001"], "The account 'nurse_001' is deactivated"),
        (["doctor_123", "--hours", "0"], "must be more than 0 and at most 720"),
        (["doctor_123", "--hours", "nan"], "must be more than 0 and at most 720"),
        (["doctor_123", "--hours", "soon"], "invalid hours value"),
    ],
)
def test_invalid_token_request_is_refused(users: Users, arguments: list[str], complaint: str) -> None:
    User.objects.filter(pk="nurse_001").update(is_active=False)
    with pytest.raises(CommandError, match=complaint):
        run("token", *arguments)
    assert not Session.objects.exists()


# connections


async def test_connections_lists_live_connections(server: ThreadServer) -> None:
    assert await beside("connections") == "Nobody is connected.\n"
    async with (
        server.phone("patient_123", "patient", deviceId="phone\x1b[31m") as patient,
        server.phone("doctor_123", "doctor", "hospital_001"),
        server.phone("doctor_002", "doctor", "hospital_002"),
    ):
        head, *lines = (await beside("connections")).splitlines()
        assert head.split() == list(connections.COLUMNS)
        assert [line.split()[:4] for line in lines] == [
            ["patient_123", "patient", "-", "phone\\x1b[31m"],
            ["doctor_123", "doctor", "hospital_001", "-"],
            ["doctor_002", "doctor", "hospital_002", "-"],
        ]
        assert {line.index("127.0.0.1") for line in lines} == {head.index("address")}

        rows = json.loads(await beside("connections", "--json"))
        assert [row["user"] for row in rows] == ["patient_123", "doctor_123", "doctor_002"]
        assert rows[0]["device"] == "phone\x1b[31m"
        assert rows[0]["since"] <= patient.established["timestamp"]
        assert {row["server"] for row in rows} == {f"{socket.gethostname()}:{os.getpid()}"}

        [only] = json.loads(await beside("connections", "--json", "--hospital", "hospital_002"))
        assert (only["user"], only["address"]) == ("doctor_002", "127.0.0.1")


def test_connections_skips_those_of_a_dead_server(users: Users) -> None:
    alive = ServerProcess.objects.create(host="ward", pid=1)
    dead = ServerProcess.objects.create(host="cellar", pid=2, seen_at=timezone.now() - timedelta(minutes=1))
    for server in (alive, dead):
        Connection.objects.create(server=server, user=users["nurse_001"], role="nurse")
    [row] = json.loads(run("connections", "--json"))
    assert row["server"] == "ward:1"


async def test_connections_close_reaches_one_user(server: ThreadServer) -> None:
    said = json.loads(await beside("token", "doctor_123", "--json"))
    async with (
        server.phone("doctor_123", "doctor", "hospital_001", token=said["access"]) as doctor_phone,
        server.phone("doctor_456", "doctor", "hospital_001") as another,
    ):
        told = json.loads(await beside("connections", "--close", "doctor_123", "--json"))
        assert told == {"userId": "doctor_123", "sessionsEnded": 1, "closing": 1, "staying": 0}
        await doctor_phone.expect_error("SESSION_REVOKED")
        assert await doctor_phone.expect_close() == 4005
        await another.echo()
        with pytest.raises(errors.SessionRevoked):
            await database_sync_to_async(actions.identify_by_token)(said["access"])
        assert "Sessions ended: 0." in await beside("connections", "--close", "doctor_123")


async def test_connections_close_says_that_a_demo_socket_has_no_session(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as patient:
        with pytest.raises(
            CommandError,
            match="1 of the connections cannot be closed: demo mode opened them without a session",
        ):
            await beside("connections", "--close", "patient_123")
        await patient.echo()


def test_connections_close_of_an_unknown_user_is_refused(users: Users) -> None:
    with pytest.raises(CommandError, match="There is no user 'nobody'"):
        run("connections", "--close", "nobody")


# What keeps from serving


@pytest.fixture
def never_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has just begun, which has not seen a database of its own version."""
    monkeypatch.setattr(readiness, "_is_schema_right", False)


@pytest.fixture
def migrated_by_a_newer_version(transactional_db: None, never_ready: None) -> Iterator[None]:
    recorder = MigrationRecorder(connection)
    recorder.record_applied("chat", "9999_of_tomorrow")
    yield
    recorder.record_unapplied("chat", "9999_of_tomorrow")


@pytest.fixture
def not_migrated(transactional_db: None, never_ready: None) -> Iterator[None]:
    recorder = MigrationRecorder(connection)
    newest = max(name for app, name in recorder.applied_migrations() if app == "realtime")
    recorder.record_unapplied("realtime", newest)
    yield
    recorder.record_applied("realtime", newest)


async def health(server: ThreadServer) -> tuple[int, list[str]]:
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        answer = await client.get(f"{server.url}/health/")
    return answer.status_code, answer.json()["unavailable"]


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_nothing_starts_before_the_migrations(not_migrated: None, command: str) -> None:
    with pytest.raises(CommandError, match=r"1 migrations are not applied.*Run manage.py migrate"):
        run(command)


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_nothing_starts_on_a_newer_database(migrated_by_a_newer_version: None, command: str) -> None:
    with pytest.raises(CommandError, match=r"newer version.*chat\.9999_of_tomorrow\. Start that version"):
        run(command)


def test_serve_collects_files_and_refuses_where_it_may_not(
    transactional_db: None, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STORAGES = settings.STORAGES | {"staticfiles": {"BACKEND": MANIFEST}}
    settings.STATIC_ROOT = tmp_path / "collected"

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("read-only")

    with monkeypatch.context() as read_only:
        read_only.setattr(serve_command, "call_command", refuse)
        with pytest.raises(CommandError, match=r"Run manage\.py collectstatic"):
            run("serve")
    served: list[object] = []
    monkeypatch.setattr(serve_command, "serve", served.append)
    monkeypatch.setattr(serve_command, "listening_socket", lambda host, port: "a socket")
    run("serve")
    assert served == ["a socket"]
    assert readiness.static_fault() is None


async def test_health_refuses_missing_migrations(not_migrated: None, server: ThreadServer) -> None:
    status, [sentence] = await health(server)
    assert status == 503
    assert "Run manage.py migrate" in sentence


async def test_health_refuses_a_newer_database_until_it_fits(
    migrated_by_a_newer_version: None, server: ThreadServer
) -> None:
    """A server that was ready stays so: the next version migrates while this one still serves."""
    status, [sentence] = await health(server)
    assert status == 503
    assert "Start that version" in sentence
    recorder = MigrationRecorder(connection)
    await sync_to_async(recorder.record_unapplied)("chat", "9999_of_tomorrow")
    assert await health(server) == (200, [])
    await sync_to_async(recorder.record_applied)("chat", "9999_of_tomorrow")
    assert await health(server) == (200, [])


async def test_health_refuses_files_that_were_not_collected(
    server: ThreadServer, settings: Any, tmp_path: Path
) -> None:
    settings.STATIC_ROOT = tmp_path / "collected"
    settings.STORAGES = settings.STORAGES | {"staticfiles": {"BACKEND": MANIFEST}}
    status, [sentence] = await health(server)
    assert status == 503
    assert "Run manage.py collectstatic" in sentence
