"""Database connections that break: what may be repeated is done all the same, and nobody is sent away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import OperationalError, connection, transaction

from chat.actions import open_room
from chat.models import Message
from hplus import errors
from hplus.accounts.models import User
from hplus.postgresql.pool import Pool
from hplus.realtime.execution.db_threads import in_admission_thread, in_db_thread
from tests.servers import ThreadServer, connect_directly
from tests.waiting import until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"), reason="PostgreSQL only"),
]
THREADS = 5
ROOM = {"receiverId": "doctor_123", "hospitalId": "hospital_001"}


@pytest.fixture
def direct() -> Iterator[psycopg.Connection[Any]]:
    """A connection beside the pool."""
    with connect_directly() as opened:
        yield opened


def backend_of_this_thread(together: threading.Barrier | None = None) -> int:
    """The process of PostgreSQL that serves this thread; the connection goes back to the pool."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            if together is not None:
                together.wait()
            return int(cursor.fetchone()[0])
    finally:
        connection.close()


def backends_of(threads: ThreadPoolExecutor) -> set[int]:
    """The processes that serve all these threads at the same time."""
    together = threading.Barrier(THREADS)
    return set(threads.map(lambda _: backend_of_this_thread(together), range(THREADS)))


# The pool


def test_broken_connections_are_replaced_at_the_first_use(direct: psycopg.Connection[Any]) -> None:
    with ThreadPoolExecutor(THREADS) as threads:
        before = backends_of(threads)
        assert len(before) == THREADS
        for pid in before:
            direct.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        for _ in range(2):
            assert threads.submit(backend_of_this_thread).result() not in before
        assert not backends_of(threads) & before


def test_returned_connection_is_used_again() -> None:
    with ThreadPoolExecutor(1) as thread:
        first, second = [thread.submit(backend_of_this_thread).result() for _ in range(2)]
    assert first == second


def test_pool_gives_no_more_than_allowed() -> None:
    pool = Pool(connect_directly, most=2, wait_seconds=0.01)
    first, second = pool.getconn(), pool.getconn()
    with pytest.raises(psycopg.OperationalError, match="in use"):
        pool.getconn()
    pool.putconn(first)
    assert pool.getconn() is first
    pool.close()
    for used in (first, second):
        pool.putconn(used)
        assert used.closed


def test_connection_that_cannot_be_opened_takes_no_place() -> None:
    def refuse() -> psycopg.Connection[Any]:
        raise psycopg.OperationalError("connection refused")

    pool = Pool(refuse, most=1, wait_seconds=0.01)
    for _ in range(3):
        with pytest.raises(psycopg.OperationalError, match="refused"):
            pool.getconn()


def test_connection_in_the_middle_of_a_transaction_is_closed_when_it_comes_back() -> None:
    pool = Pool(connect_directly, most=1, wait_seconds=0.01)
    used = pool.getconn()
    used.execute("BEGIN")
    pool.putconn(used)
    assert used.closed
    assert pool.getconn().execute("SELECT 1").fetchone() == (1,)
    pool.close()


# What is under way when a connection breaks


class Breaking:
    """An action whose database connection breaks the first time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        with connection.cursor() as cursor:
            if self.calls == 1:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            cursor.execute("SELECT 'done'")
            return str(cursor.fetchone()[0])


async def test_admission_is_repeated_once_where_its_connection_breaks() -> None:
    action = Breaking()
    assert await in_admission_thread(action) == "done"
    assert action.calls == 2


async def test_action_that_may_have_been_done_is_not_repeated() -> None:
    action = Breaking()
    with pytest.raises(errors.InternalError):
        await in_db_thread(action)
    assert action.calls == 1


async def test_statement_that_fails_for_itself_is_not_repeated() -> None:
    calls = []

    def act() -> None:
        calls.append(1)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 1")
            cursor.execute("SELECT pg_sleep(10)")

    with pytest.raises(OperationalError, match="statement timeout"):
        await in_admission_thread(act)
    assert calls == [1]


@pytest.mark.parametrize("client_message_id", ["once", None])
async def test_message_whose_flight_breaks_is_sent_where_a_repetition_would_be_noticed(
    server: ThreadServer, users: dict[str, User], client_message_id: str | None
) -> None:
    await asyncio.to_thread(open_room, users["patient_123"], "doctor_123", "hospital_001")
    async with server.phone("patient_123", "patient") as patient:
        await patient.ask("joinChatRoom", **ROOM)
        with connect_directly() as holder:
            holder.execute("BEGIN")
            holder.execute("SELECT FROM chat_chatroom FOR UPDATE")
            await patient.send(
                "sendMessage", **ROOM, message="Hello", clientMessageId=client_message_id, requestId="one"
            )
            await until(lambda: asyncio.to_thread(terminate_flight))
        answer = await patient.expect_that(lambda frame: frame.get("requestId") == "one", "the answer")
    stored = await asyncio.to_thread(Message.objects.count)
    if client_message_id:
        assert (answer["type"], answer["status"], stored) == ("ack", "ok", 1)
    else:
        assert (answer["code"], stored) == ("INTERNAL_ERROR", 0)


def terminate_flight() -> bool:
    """Break the connection whose hot statement waits for a lock. Returns whether there is one."""
    waiting = "query LIKE '%%json_to_recordset($1%%' AND wait_event_type = 'Lock'"
    with connect_directly() as direct:
        found = direct.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {waiting}")
        return bool(found.fetchall())
