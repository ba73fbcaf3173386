"""What must happen on time does not wait for other houses."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.db import connection as database
from django.utils import timezone

from calls.models import Call, Participant
from calls.teardown import maybe_lost
from emergency.models import Emergency
from hplus.accounts.models import Hospital, Session, User
from hplus.protocol.wire import new_id
from hplus.push.models import PushDevice, PushOutbox
from hplus.realtime.execution import prepared
from hplus.realtime.hub.expiry import presences_to_expire
from hplus.realtime.models import Connection, Presence, ServerProcess
from hplus.realtime.scheduler import Due, PeriodicJob, Worker, _Probe
from hplus.routing import JOBS
from tests.waiting import PATIENCE_SECONDS

needs_statements = pytest.mark.skipif(database.vendor != "postgresql", reason="the statement is PostgreSQL's")


def test_job_with_own_thread_does_not_delay_the_others() -> None:
    is_free, was_done = threading.Event(), threading.Event()

    def wait_for_a_push_service() -> int:
        is_free.wait(PATIENCE_SECONDS)
        return 0

    def escalate() -> int:
        was_done.set()
        return 1

    worker = Worker([PeriodicJob(wait_for_a_push_service, 1, own_thread=True), PeriodicJob(escalate, 1)])
    worker.start()
    try:
        assert was_done.wait(PATIENCE_SECONDS / 2)
    finally:
        is_free.set()
        worker.stop()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once the database has been asked what is due."""
    was_asked, ask = threading.Event(), _Probe.ask

    def note(probe: _Probe) -> dict[Due, bool]:
        found = ask(probe)
        was_asked.set()
        return found

    monkeypatch.setattr(_Probe, "ask", note)
    return was_asked


@needs_statements
def test_job_runs_only_when_something_is_due(users: dict[str, User], asked: threading.Event) -> None:
    calls: list[str] = []
    was_done = threading.Event()

    def expire() -> int:
        calls.append("expire")
        Presence.objects.update(offline_due_at=None)
        was_done.set()
        return 1

    jobs = [
        PeriodicJob(expire, 0.1, due=presences_to_expire),
        PeriodicJob(lambda: len(calls), 0.1, due=PushOutbox.objects.due),
    ]
    Presence.objects.create(user_id="nurse_001", offline_due_at=timezone.now() + timedelta(hours=1))
    worker = Worker(jobs)
    worker.start()
    try:
        assert asked.wait(PATIENCE_SECONDS)
        assert calls == []
        Presence.objects.update(offline_due_at=timezone.now())
        assert was_done.wait(PATIENCE_SECONDS)
        asked.clear()
        assert asked.wait(PATIENCE_SECONDS)
    finally:
        worker.stop()
    assert calls == ["expire"]


@needs_statements
@pytest.mark.parametrize("age", [timedelta(seconds=-60), timedelta(0), timedelta(seconds=60)])
def test_statement_finds_what_the_jobs_find(users: dict[str, User], age: timedelta) -> None:
    """For each job with something that is due then: the rows stand there, and time decides."""
    due_at = timezone.now() - age
    emergency = Emergency.objects.create(
        hospital_id="hospital_001",
        patient_id="patient_123",
        lat=1,
        lng=1,
        condition="x",
        priority="high",
        requested_by_id="patient_123",
        requested_by_role="patient",
        requested_at=due_at,
        escalate_at=due_at,
        check_at=due_at,
    )
    Hospital.objects.filter(pk=emergency.hospital_id).update(is_on_diversion=True, diversion_until=due_at)
    Presence.objects.create(user_id="nurse_001", offline_due_at=due_at)
    call = Call.objects.create(call_type="audio", initiator_id="doctor_123", hospital_id="hospital_001")
    Participant.objects.create(call=call, user_id="nurse_001", ring_due_at=due_at)
    session = Session.objects.create(user_id="nurse_001")
    device = PushDevice.objects.create(user_id="nurse_001", session=session, token="x", token_digest="x")
    PushOutbox.objects.create(device=device, category="x", event_id=new_id(), due_at=due_at)
    dues = [job.due for job in JOBS if job.due and job.due is not maybe_lost]
    assert len(dues) >= 5
    found = _Probe(dues).ask()
    assert found == {due: due(timezone.now()).exists() for due in dues}
    assert set(found.values()) == {age >= timedelta(0)}


@needs_statements
def test_statement_finds_participants_without_connection(users: dict[str, User]) -> None:
    probe = _Probe([maybe_lost])
    call = Call.objects.create(call_type="audio", initiator_id="doctor_123", hospital_id="hospital_001")
    joined = Participant.objects.create(call=call, user_id="nurse_001", status="joined")
    assert probe.ask() == {maybe_lost: True}
    server = ServerProcess.objects.create(host="here", pid=1)
    Connection.objects.create(server=server, user_id="nurse_001", role="nurse")
    assert probe.ask() == {maybe_lost: False}
    Participant.objects.filter(pk=joined.pk).update(dropped_due_at=timezone.now() + timedelta(hours=1))
    assert probe.ask() == {maybe_lost: True}
    Participant.objects.update(status="left")
    assert probe.ask() == {maybe_lost: False}


@needs_statements
def test_unanswered_query_of_one_job_does_not_stop_the_others(
    users: dict[str, User], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(prepared.statements, "fetch", refuse)
    was_done = threading.Event()
    worker = Worker(
        [
            PeriodicJob(lambda: pytest.fail("it is not known to be due"), 0.1, due=presences_to_expire),
            PeriodicJob(lambda: bool(was_done.set()), 0.1),
        ]
    )
    worker.start()
    try:
        assert was_done.wait(PATIENCE_SECONDS)
    finally:
        worker.stop()
