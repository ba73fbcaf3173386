"""What must happen on time does not wait for other houses, and a job that does not come is named."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.db import OperationalError
from django.db import connection as database
from django.utils import timezone

from calls.models import Call, Participant
from calls.teardown import maybe_lost
from emergency.models import Emergency
from hplus.accounts.models import Hospital, Session, User
from hplus.operations.doctor.database import about_late_jobs
from hplus.operations.doctor.findings import Finding
from hplus.protocol.wire import new_id
from hplus.push.models import PushDevice, PushOutbox
from hplus.realtime import scheduler
from hplus.realtime.execution import prepared
from hplus.realtime.execution.db_threads import in_db_thread
from hplus.realtime.hub.expiry import presences_to_expire
from hplus.realtime.job_record import JobRecord, report
from hplus.realtime.models import Connection, JobState, JobStateQuerySet, Presence, ServerProcess
from hplus.realtime.scheduler import Due, PeriodicJob, Worker, _Probe
from hplus.routing import JOBS
from tests.servers import ThreadServer, connect_directly
from tests.waiting import PATIENCE_SECONDS, until

needs_statements = pytest.mark.skipif(database.vendor != "postgresql", reason="the statement is PostgreSQL's")


@pytest.mark.parametrize("may_wait", [False, True])
def test_job_that_hangs_delays_no_other_and_is_not_begun_twice(may_wait: bool) -> None:
    is_free, was_done_again = threading.Event(), threading.Event()
    begun: list[str] = []
    done: list[str] = []

    def wait_for_a_push_service() -> int:
        begun.append("push")
        is_free.wait(PATIENCE_SECONDS)
        return 0

    def escalate() -> int:
        done.append("escalation")
        if len(done) == 3:
            was_done_again.set()
        return 1

    jobs = [PeriodicJob(wait_for_a_push_service, 0.01, may_wait=may_wait), PeriodicJob(escalate, 0.01)]
    worker = Worker(jobs)
    worker.start()
    try:
        assert was_done_again.wait(PATIENCE_SECONDS / 2)
        assert begun == ["push"]
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


@needs_statements
def test_table_that_somebody_locks_stops_no_job_of_another_table(users: dict[str, User]) -> None:
    was_done = threading.Event()
    Presence.objects.create(user_id="nurse_001", offline_due_at=timezone.now())
    worker = Worker(
        [
            PeriodicJob(lambda: 0, 0.1, due=PushOutbox.objects.due),
            PeriodicJob(lambda: bool(was_done.set()), 0.1, due=presences_to_expire),
        ]
    )
    with connect_directly() as other, other.transaction():
        other.execute("LOCK TABLE push_pushoutbox")
        worker.start()
        try:
            assert was_done.wait(PATIENCE_SECONDS)
        finally:
            worker.stop()


# Late jobs


@pytest.fixture
def quick_reports(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """To be named before `server`, whose own worker does not run."""
    settings.HPLUS_WORKER_INSIDE = False
    monkeypatch.setattr(scheduler, "REPORT_SECONDS", 0.2)


@contextlib.contextmanager
def running(*jobs: PeriodicJob) -> Iterator[None]:
    worker = Worker(jobs)
    worker.start()
    try:
        yield
    finally:
        worker.stop()


async def late_jobs(server: ThreadServer) -> list[str]:
    """What `/health/` says; a late job is no reason to take a server away."""
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        answer = await client.get(f"{server.url}/health/")
    assert answer.status_code == 200
    return [text for text in answer.json()["warnings"] if text.startswith("job ")]


async def figure(server: ThreadServer, name: str) -> float | None:
    """A metric of Prometheus; None where it is missing."""
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        text = (await client.get(f"{server.url}/metrics")).text
    found = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(found[0]) if found else None


async def says(server: ThreadServer, late: list[str]) -> bool:
    return await late_jobs(server) == late


async def has_figure(server: ThreadServer, name: str, least: float) -> bool:
    return (await figure(server, name) or 0) >= least


def opinion_of_the_doctor() -> Finding:
    return about_late_jobs(timezone.now(), is_running=True)


async def test_job_that_hangs_is_named_until_it_is_done(quick_reports: None, server: ThreadServer) -> None:
    may_end = threading.Event()

    def hang() -> int:
        may_end.wait(PATIENCE_SECONDS)
        return 1

    def escalate() -> int:
        return 2

    jobs = PeriodicJob(hang, 0.1, late_after_seconds=0.5), PeriodicJob(escalate, 0.1)
    try:
        with running(*jobs):
            await until(lambda: says(server, ["job hang"]))
            finding = await in_db_thread(opinion_of_the_doctor)
            assert finding.status == "wrong"
            assert finding.message.startswith("hang has not been done for ")
            assert "it has been running since" in finding.message
            assert await figure(server, 'hplus_job_late{job="hang"}') == 1
            assert await figure(server, 'hplus_job_late{job="escalate"}') == 0
            assert await figure(server, 'hplus_job_last_success_timestamp{job="hang"}') is None
            assert await figure(server, 'hplus_job_last_success_timestamp{job="escalate"}')
            assert await figure(server, 'hplus_job_rows_total{job="escalate"}')
            may_end.set()
            jobs[0].late_after_seconds = jobs[0].record.late_after_seconds = PATIENCE_SECONDS
            await until(lambda: says(server, []))
            assert (await in_db_thread(opinion_of_the_doctor)).status == "ok"
    finally:
        may_end.set()


async def test_job_that_fails_again_and_again_is_named(quick_reports: None, server: ThreadServer) -> None:
    def fail() -> int:
        raise ValueError("a patient's name")

    with running(PeriodicJob(fail, 0.1, late_after_seconds=0.5)):
        await until(lambda: says(server, ["job fail"]))
        await until(lambda: has_figure(server, 'hplus_job_failures_total{job="fail"}', 3))
        finding = await in_db_thread(opinion_of_the_doctor)
    assert finding.status == "wrong"
    assert "it fails with ValueError" in finding.message
    assert "patient" not in finding.message


async def test_jobs_are_late_once_no_worker_runs(quick_reports: None, server: ThreadServer) -> None:
    def escalate() -> int:
        return 0

    job = PeriodicJob(escalate, 0.1, late_after_seconds=1)
    with running(job):
        await until(lambda: has_figure(server, 'hplus_job_last_success_timestamp{job="escalate"}', 1))
    await until(lambda: says(server, ["job escalate"]))


def test_each_job_has_its_own_name_and_a_limit_longer_than_its_pause() -> None:
    """By the name its figures are found; with a shorter limit it would be late between two runs."""
    assert len({job.record.name for job in JOBS}) == len(JOBS)
    for job in JOBS:
        assert job.late_after_seconds >= 2 * job.every_seconds, job


def test_what_could_not_be_reported_is_reported_later(
    users: dict[str, User], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = JobRecord("escalate", 60)
    record.begin(0)
    record.succeed(3)

    def refuse(*_: object) -> None:
        raise OperationalError("away")

    with monkeypatch.context() as unreachable:
        unreachable.setattr(JobStateQuerySet, "add", refuse)
        with pytest.raises(OperationalError):
            report([record])
    record.begin(0)
    record.succeed(4)
    assert report([record]) == 1
    report([record])
    state = JobState.objects.get()
    assert (state.runs, state.row_count, state.failures) == (2, 7, 0)
    assert state.succeeded_at is not None
