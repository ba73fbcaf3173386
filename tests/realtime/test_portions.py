"""Tables that grow are cleaned in short transactions, which go on where they were cut down or interrupted."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session as AdminSession
from django.db import OperationalError, connection, models, transaction
from django.utils import timezone

from hplus import portions
from hplus.accounts import admin_sessions
from hplus.accounts.models import User
from hplus.notifications.actions import delete_old_notifications
from hplus.notifications.models import Notification
from hplus.realtime.models import MailboxEntry
from hplus.realtime.publishing import replay
from tests.waiting import PATIENCE_SECONDS

needs_limits = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no statement limit")
LONG_AGO = timezone.now() - timedelta(days=400)
ROWS = 12_000


def store_entries(count: int = ROWS) -> None:
    MailboxEntry.objects.bulk_create(
        MailboxEntry(user_id="nurse_001", seq=seq, event_type="x", subject="x", event_id="x", at=LONG_AGO)
        for seq in range(1, count + 1)
    )


def store_notices(count: int = ROWS) -> None:
    Notification.objects.bulk_create(
        Notification(recipient_id="nurse_001", category="x", title="x", read_at=LONG_AGO)
        for _ in range(count)
    )


def store_sign_ins(count: int = ROWS) -> None:
    AdminSession.objects.bulk_create(
        AdminSession(session_key=f"{number}", session_data="", expire_date=LONG_AGO)
        for number in range(count)
    )


Store, Clean, Model = Callable[[int], None], Callable[[], int], type[models.Model]
CLEANINGS: list[tuple[Store, Clean, Model]] = [
    (store_entries, replay.delete_old_entries, MailboxEntry),
    (store_notices, delete_old_notifications, Notification),
    (store_sign_ins, admin_sessions.delete_expired, AdminSession),
]


SLOW_ROWS = """
CREATE FUNCTION delete_slowly() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.002); RETURN OLD; END $$;
CREATE TRIGGER slowly BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION delete_slowly();
"""


@contextlib.contextmanager
def slow_rows(table: str) -> Iterator[None]:
    """Each deleted row takes two milliseconds, and a statement has as much time as two hundred rows."""
    with connection.cursor() as cursor:
        cursor.execute(SLOW_ROWS.format(table=table))
        cursor.execute("SET statement_timeout = 400")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET statement_timeout")
            cursor.execute("DROP FUNCTION delete_slowly CASCADE")


@needs_limits
@pytest.mark.parametrize(("store", "clean", "model"), CLEANINGS)
def test_cleaning_ends_under_a_limit_that_cuts_down_one_statement(
    users: dict[str, User], store: Store, clean: Clean, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    store(600)
    with slow_rows(model._meta.db_table), caplog.at_level(logging.INFO, "hplus.portions"):
        with pytest.raises(OperationalError):
            model._base_manager.all().delete()
        assert clean() == 600
    assert "A portion took too long" in caplog.text
    assert not model._base_manager.exists()


@pytest.mark.parametrize(("store", "clean", "model"), CLEANINGS)
def test_interrupted_cleaning_keeps_what_it_did_and_goes_on(
    users: dict[str, User],
    store: Store,
    clean: Clean,
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(_seconds: float) -> None:
        raise KeyboardInterrupt

    store(ROWS)
    with monkeypatch.context() as interrupted:
        interrupted.setattr("hplus.portions.time.sleep", stop)
        with pytest.raises(KeyboardInterrupt):
            clean()
    assert model._base_manager.count() == ROWS - portions.MOST_ROWS
    assert clean() == ROWS - portions.MOST_ROWS
    assert clean() == 0


@needs_limits
@pytest.mark.parametrize(("store", "clean", "model"), CLEANINGS)
def test_cleaning_waits_for_nobody_who_holds_a_row(
    users: dict[str, User],
    store: Store,
    clean: Clean,
    model: Model,
) -> None:
    """Somebody holds one row all the while: it is left to the next time."""
    is_held, may_end = threading.Event(), threading.Event()

    @transaction.atomic
    def hold_a_row() -> None:
        list(model._base_manager.select_for_update()[:1])
        is_held.set()
        may_end.wait(PATIENCE_SECONDS)

    def hold_a_row_and_disconnect() -> None:
        try:
            hold_a_row()
        finally:
            connection.close()

    store(ROWS)
    holding = threading.Thread(target=hold_a_row_and_disconnect)
    holding.start()
    assert is_held.wait(PATIENCE_SECONDS)
    assert clean() == ROWS - 1
    may_end.set()
    holding.join()
    assert clean() == 1


@needs_limits
def test_portion_that_can_not_be_done_in_time_is_a_failure(users: dict[str, User]) -> None:
    """It is for the jobs' metrics to say so; nobody repeats it for ever."""

    def work(_limit: int) -> int:
        with connection.cursor() as cursor, transaction.atomic():
            cursor.execute("SET LOCAL statement_timeout = 1")
            cursor.execute("SELECT pg_sleep(60)")
        return 1

    with pytest.raises(OperationalError):
        portions.repeat_in_portions(work)
