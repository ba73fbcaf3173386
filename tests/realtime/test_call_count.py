"""What a message costs, counted in calls from file to file: a figure that no busy machine changes."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from hplus.accounts.models import User
from hplus.realtime.execution import db_threads
from tests.call_count import Call, CallCount
from tests.phone import Phone
from tests.servers import ThreadServer, has_reconciled
from tests.waiting import until

HOSPITAL = "hospital_001"
MOST_CALLS = 75
MESSAGES = 5  # the cheapest counts: a reconciliation may run beside any of them


async def test_message_with_receipt_and_ack_takes_few_calls_from_file_to_file(
    users: dict[str, User], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no hot connection")
    settings.HPLUS_WORKER_INSIDE = False
    monkeypatch.setattr(db_threads, "_actions", ThreadPoolExecutor())  # threads that are counted, too
    count = CallCount()
    with count.installed(), ThreadServer() as server:
        async with (
            server.phone("patient_123", "patient") as patient,
            server.phone("doctor_123", "doctor", HOSPITAL) as doctor,
        ):
            await until(lambda: has_reconciled("doctor_123"))  # it knows that no other server listens
            await send_and_hear(patient, doctor, "first")  # makes the room and prepares the statements
            found = [await calls_of_a_message(count, patient, doctor, n) for n in range(MESSAGES)]
    fewest = min(found, key=Counter.total)
    listed = "\n".join(f"{times} {caller} → {called}" for (caller, called), times in sorted(fewest.items()))
    assert ("hplus/realtime/connection/inbound.py", "hplus/protocol/wire.py parse") in fewest, listed
    assert fewest.total() <= MOST_CALLS, listed


async def calls_of_a_message(count: CallCount, patient: Phone, doctor: Phone, number: int) -> Counter[Call]:
    with count.counting() as calls:
        await send_and_hear(patient, doctor, f"message-{number}")
    return calls


async def send_and_hear(patient: Phone, doctor: Phone, key: str) -> None:
    """A message until both sides have it, and the sender its ack and the receipt."""
    to_doctor = {"receiverId": "doctor_123", "hospitalId": HOSPITAL}
    await patient.send("sendMessage", **to_doctor, message="Are you there?", clientMessageId=key)
    message = await doctor.expect("newMessage", clientMessageId=key)
    await patient.expect("newMessage", clientMessageId=key)
    await patient.expect("ack", clientMessageId=key)
    await patient.expect("messageDelivered", messageId=message["data"]["messageId"])
