"""The audit is one chain: whoever touches it is found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import Error, connection, transaction

from hplus.accounts.models import User
from hplus.audit.actions import record, verify
from hplus.audit.models import Head, Record, Verb

LINES = 6
is_postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="PostgreSQL's own refusal")


@pytest.fixture(autouse=True)
def chain(users: dict[str, User]) -> None:
    for number in range(LINES):
        record(users["admin_001"], Verb.READ, users["doctor_123"], page=number, of="ä 'list'")


def sql(statement: str, *values: Any) -> None:
    """As somebody does who holds the database itself, and has switched its own refusal off."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = replica")
        cursor.execute(statement, values)
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = DEFAULT")


def found() -> list[tuple[int, str]]:
    return [(fault.number, fault.what) for fault in verify()[1]]


def test_untouched_chain_verifies(users: dict[str, User]) -> None:
    head, faults = verify()
    assert (head.count, faults) == (LINES, [])
    last = Record.objects.get(number=LINES)
    assert (last.actor_id, last.verb, last.object_type, last.object_id, last.hospital_id) == (
        "admin_001",
        "read",
        "accounts.user",
        "doctor_123",
        "hospital_001",
    )
    assert last.digest == head.digest


@pytest.mark.parametrize(
    ("statement", "faults"),
    [
        ("UPDATE audit_record SET actor_id = 'nobody' WHERE number = 3", [(3, "was changed")]),
        ("UPDATE audit_record SET details = '{}' WHERE number = 6", [(6, "was changed")]),
        ("UPDATE audit_record SET at = '2020-01-01 00:00:00+00' WHERE number = 1", [(1, "was changed")]),
        ("DELETE FROM audit_record WHERE number = 1", [(1, "1 missing from here on")]),
        ("DELETE FROM audit_record WHERE number IN (3, 4)", [(3, "2 missing from here on")]),
        ("DELETE FROM audit_record WHERE number > 4", [(5, "2 missing at the end")]),
        ("DELETE FROM audit_record", [(1, "6 missing at the end")]),
        ("DELETE FROM audit_head", [(n, "comes after the end of the chain") for n in range(1, LINES + 1)]),
    ],
)
def test_tampering_is_found(statement: str, faults: list[tuple[int, str]]) -> None:
    sql(statement)
    assert found() == faults


def test_inserted_or_resealed_row_is_found() -> None:
    forged = Record.objects.get(number=4)
    forged.actor_id = "nobody"
    forged.digest = forged.seal()
    sql("UPDATE audit_record SET actor_id = 'nobody', digest = %s WHERE number = 4", forged.digest)
    assert found() == [(5, "does not follow the row before it")]

    extra = Record.objects.get(number=LINES)
    extra.number, extra.previous = LINES + 1, extra.digest
    extra.digest = extra.seal()
    extra._state.adding = True
    extra.save()
    assert (LINES + 1, "comes after the end of the chain") in found()


def test_fully_resealed_chain_differs_from_the_noted_head() -> None:
    sql("DELETE FROM audit_record WHERE number = 6")
    last = Record.objects.get(number=5)
    sql("UPDATE audit_head SET count = 5")
    assert found() == [(5, "is not the row that the head names as the last")]
    assert last.digest != Head.objects.get().digest


def test_concurrent_records_keep_one_chain(users: dict[str, User]) -> None:
    def write(number: int) -> None:
        try:
            record(users["root"], Verb.READ, users["patient_123"], number=number)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as writers:
        list(writers.map(write, range(40)))
    head, faults = verify()
    assert (head.count, faults) == (LINES + 40, [])


def test_record_is_rolled_back_with_its_action(users: dict[str, User]) -> None:
    def half() -> None:
        with transaction.atomic():
            record(users["root"], Verb.READ, users["patient_123"])
            raise RuntimeError("the ward is full")

    with pytest.raises(RuntimeError):
        half()
    head, faults = verify()
    assert (head.count, faults) == (LINES, [])


@pytest.mark.parametrize(
    "touch",
    [
        lambda: Record.objects.update(actor_id="nobody"),
        lambda: Record.objects.all().delete(),
        lambda: Record.objects.first().delete(),  # type: ignore[union-attr]
        lambda: Record.objects.first().save(),  # type: ignore[union-attr]
    ],
)
def test_model_refuses_to_change_or_delete_a_record(touch: Callable[[], Any]) -> None:
    with pytest.raises(TypeError):
        touch()


@is_postgresql
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_record SET actor_id = 'nobody'",
        "DELETE FROM audit_record",
        "DELETE FROM audit_head",
        "UPDATE audit_head SET count = 1",
    ],
)
def test_database_trigger_refuses_to_change_or_delete_a_record(statement: str) -> None:
    with connection.cursor() as cursor, pytest.raises(Error, match="stays as it is"):
        cursor.execute(statement)


def command(*arguments: str) -> tuple[int, str]:
    said = StringIO()
    try:
        call_command("verify_audit", *arguments, stdout=said)
    except SystemExit as ended:
        return int(str(ended.code)), said.getvalue()
    return 0, said.getvalue()


def test_verify_command_reports_tampering_and_exits_1() -> None:
    code, said = command()
    assert code == 0
    assert said.startswith("The audit is whole: 6 rows")
    sql("DELETE FROM audit_record WHERE number = 2")
    assert command()[0] == 1
    code, said = command("--json")
    assert code == 1
    assert json.loads(said)["faults"] == [{"number": 2, "what": "1 missing from here on"}]
