"""Nothing is published while a server is alone, and a server that has just started is never missed."""

from __future__ import annotations

import pytest

from hplus.accounts.models import User
from hplus.realtime.hub import neighbours
from tests.servers import ProcessServer, has_reconciled
from tests.waiting import until

HOSPITAL = "hospital_001"
TO_PATIENT = {"receiverId": "patient_123", "hospitalId": HOSPITAL}
TO_DOCTOR = {"receiverId": "doctor_123", "hospitalId": HOSPITAL}


async def test_server_is_alone_once_no_other_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    known = neighbours.Neighbours()
    assert not known.is_alone()
    known.note_registered(False)
    assert known.is_alone()
    known.note_heard()
    assert not known.is_alone()
    monkeypatch.setattr(neighbours, "HELLO_COUNTS_SECONDS", -1)
    known.note_heard()
    assert known.is_alone()
    known.note_registered(True)
    assert not known.is_alone()


async def test_new_server_gets_messages_of_one_that_was_alone(
    users: dict[str, User],
) -> None:
    with ProcessServer() as first:
        async with first.phone("doctor_123", "doctor", HOSPITAL) as doctor:
            await until(lambda: has_reconciled("doctor_123"))
            with ProcessServer() as second:
                async with second.phone("patient_123", "patient") as patient:
                    await doctor.send("sendMessage", **TO_PATIENT, message="Are you there?")
                    assert (await patient.expect("newMessage"))["data"]["message"] == "Are you there?"
                    await patient.send("sendMessage", **TO_DOCTOR, message="Yes.")
                    await doctor.expect("newMessage", message="Yes.")
