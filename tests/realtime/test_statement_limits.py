"""Statement and lock limits are those of requests: a job has more time, a command all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection, connections, transaction

from hplus import settings as real
from hplus.accounts.models import User
from hplus.postgresql.limits import COMMAND, JOB, REQUEST, working_for
from hplus.realtime.execution.db_threads import in_db_thread, in_urgent_thread
from hplus.realtime.scheduler import PeriodicJob, Worker
from hplus.routing import JOBS
from tests import pgbouncer
from tests.servers import ROOT, ProcessServer, ThreadServer, database_url
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no such limits")
needs_pgbouncer = pytest.mark.skipif(pgbouncer.binary() is None, reason="apt install pgbouncer")
OF_A_REQUEST, OF_A_JOB, NONE = ["4s", "3s", "5s"], ["1min", "10s", "1min"], ["0", "0", "0"]
NAMES = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
KINDS = [(REQUEST, OF_A_REQUEST), (JOB, OF_A_JOB), (COMMAND, NONE), (REQUEST, OF_A_REQUEST), (JOB, OF_A_JOB)]


@pytest.fixture(autouse=True)
def limits(settings: Any, transactional_db: None) -> Iterator[None]:
    """Those of a real installation, which tests are spared."""
    connection.close()
    connection.close_pool()
    settings.DATABASE_LIMITS = real.DATABASE_LIMITS
    yield
    connection.close()
    connection.close_pool()


def shown(alias: str = "default") -> list[str]:
    """The limits of a statement that stands alone."""
    found = []
    for name in NAMES:
        with connections[alias].cursor() as cursor:
            cursor.execute(f"SHOW {name}")
            found.append(cursor.fetchone()[0])
    connections[alias].close()
    return found


def shown_in_transaction(alias: str = "default") -> list[str]:
    with transaction.atomic(using=alias):
        found = []
        for name in NAMES:
            with connections[alias].cursor() as cursor:
                cursor.execute(f"SHOW {name}")
                found.append(cursor.fetchone()[0])
    connections[alias].close()
    return found


def test_each_kind_of_work_has_its_limits() -> None:
    for kind, expected in KINDS:
        with working_for(kind):
            assert (shown(), shown_in_transaction()) == (expected, expected)


async def test_server_limits_its_requests_and_gives_its_jobs_more_time(server: ThreadServer) -> None:
    found: list[list[str]] = []
    was_done = threading.Event()

    def look() -> int:
        found.append(shown())
        was_done.set()
        return 1

    assert await in_db_thread(shown) == OF_A_REQUEST
    assert await in_urgent_thread(shown) == OF_A_REQUEST
    for may_wait in (False, True):
        was_done.clear()
        worker = Worker([PeriodicJob(look, 3600, may_wait=may_wait)])
        worker.start()
        await sync_to_async(was_done.wait)(PATIENCE_SECONDS)
        worker.stop()
    assert found == [OF_A_JOB, OF_A_JOB]


def manage(*arguments: str, **environment: str) -> str:
    """The output of a command with the settings of an installation."""
    surroundings = {**os.environ, "DJANGO_SETTINGS_MODULE": "hplus.settings", **environment}
    command = [sys.executable, "manage.py", *arguments]
    ended = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


LOOK = f"""
from django.db import connection
for name in {NAMES}:
    with connection.cursor() as cursor:
        cursor.execute("SHOW " + name)
        print(cursor.fetchone()[0])
"""


def test_command_has_all_the_time() -> None:
    assert manage("shell", "--no-imports", "-c", LOOK, DATABASE_URL=database_url()).split() == NONE


def test_each_thread_of_a_worker_has_a_place_in_the_pool() -> None:
    assert len(Worker(JOBS)._lanes) <= real.JOB_THREADS


# Behind pgbouncer, where a session keeps no settings


@pytest.fixture
def bouncer() -> Iterator[pgbouncer.PgBouncer]:
    with pgbouncer.PgBouncer(int(connection.settings_dict["PORT"])) as running:
        yield running


@pytest.fixture
def pooled(bouncer: pgbouncer.PgBouncer) -> Iterator[str]:
    """The alias of the test's database behind pgbouncer."""
    behind: Any = type(connections["default"])(
        {**connection.settings_dict, "PORT": str(bouncer.port)}, "pooled"
    )
    connections["pooled"] = behind
    yield "pooled"
    behind.close()
    behind.close_pool()
    del connections["pooled"]


@needs_pgbouncer
def test_limits_hold_behind_pgbouncer_and_none_stays_behind(pooled: str) -> None:
    """All share one connection of the server, so a setting that stayed would be the next one's."""
    for kind, expected in KINDS:
        with working_for(kind):
            assert (shown(pooled), shown_in_transaction(pooled)) == (expected, expected)


@needs_pgbouncer
def test_slow_statement_behind_pgbouncer_is_cut_down(pooled: str, settings: Any) -> None:
    settings.DATABASE_LIMITS = {"request": {"statement_timeout": 1}}
    with (
        working_for(REQUEST),
        connections[pooled].cursor() as cursor,
        pytest.raises(OperationalError, match="statement timeout"),
    ):
        cursor.execute("SELECT pg_sleep(60)")


@needs_pgbouncer
@pytest.mark.parametrize("prepared", ["0", "1"])
def test_doctor_warns_of_prepared_statements_behind_pgbouncer(
    bouncer: pgbouncer.PgBouncer, prepared: str
) -> None:
    database = f"postgres://hplus@127.0.0.1:{bouncer.port}/{connection.settings_dict['NAME']}"
    behind = {"DATABASE_URL": database, "HPLUS_PREPARED_STATEMENTS": prepared}
    command = [sys.executable, "manage.py", "doctor", "--json"]
    ended = subprocess.run(command, cwd=ROOT, env={**os.environ, **behind}, capture_output=True, check=False)
    found = {finding["check"]: finding["status"] for finding in json.loads(ended.stdout)}
    assert found["database"] == "ok"
    assert found.get("database.pooler") == {"0": None, "1": "warning"}[prepared]


@needs_pgbouncer
async def test_conversation_behind_pgbouncer(users: dict[str, User], bouncer: pgbouncer.PgBouncer) -> None:
    """`migrate` and `serve` with the settings of an installation; pgbouncer 1.18 can't prepare statements."""
    database = f"postgres://hplus@127.0.0.1:{bouncer.port}/{connection.settings_dict['NAME']}"
    behind = {"DATABASE_URL": database, "HPLUS_PREPARED_STATEMENTS": "0"}
    await sync_to_async(manage)("migrate", "--verbosity", "0", **behind)
    server = ProcessServer(None, DJANGO_SETTINGS_MODULE="hplus.settings", **behind)
    await sync_to_async(server.start)()
    try:
        async with (
            server.phone("patient_123", "patient") as patient,
            server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        ):
            await patient.ask(
                "sendMessage", receiverId="doctor_123", hospitalId="hospital_001", message="Hello"
            )
            await doctor.expect("newMessage", message="Hello")
            await patient.expect("messageDelivered")
    finally:
        await sync_to_async(server.terminate)()
    assert "Traceback" not in server.log.decode()
