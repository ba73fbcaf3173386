"""Periodic jobs that are late, for the doctor, `/health/` and Prometheus: the same from each server."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime

from django.db import Error
from django.utils import timezone
from prometheus_client import REGISTRY, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from hplus.realtime.models import JobState

logger = logging.getLogger(__name__)


def names_of_late_jobs() -> list[str]:
    return [state.name for state in JobState.objects.late(timezone.now())]


def description(state: JobState, now: datetime) -> str:
    """Say for how long this late job has not been done, and why as far as is known."""
    text = f"{state.name} has not been done for {state.silent_seconds(now):.0f} s"
    text += f" (at most {state.late_after_seconds:.0f})"
    if state.running_since is not None:
        return f"{text}: it has been running since {state.running_since:%H:%M:%S} UTC"
    if state.failed_at is not None and state.failed_at > (state.succeeded_at or state.since_at):
        return f"{text}: it fails with {state.error}, last at {state.failed_at:%H:%M:%S} UTC"
    return text


class JobMetrics:
    """What the workers have reported, read at each scrape: a separate worker has no address of its own."""

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        try:
            states = list(JobState.objects.order_by("name"))
        except Error as unreadable:
            logger.warning("The state of the jobs could not be read: %s", type(unreadable).__name__)
            return ()
        return _families(states)


def _families(states: list[JobState]) -> Iterable[Metric]:
    now = timezone.now()
    yield _gauge("hplus_job_last_success_timestamp", "Unix time of the last success", {
        state: state.succeeded_at.timestamp() for state in states if state.succeeded_at
    })  # fmt: skip
    late = {state: float(state.is_late(now)) for state in states}
    yield _gauge("hplus_job_late", "1 where there was no success for as long as the job may take", late)
    seconds = {state: state.run_seconds for state in states}
    yield _gauge("hplus_job_last_duration_seconds", "How long the last run took", seconds)
    delays = {state: state.delay_seconds for state in states}
    yield _gauge("hplus_job_last_delay_seconds", "How long after its time the last run began", delays)
    yield _counter("hplus_job_runs", "Runs that ended", {state: state.runs for state in states})
    yield _counter("hplus_job_rows", "Rows that the runs have done", {s: s.row_count for s in states})
    yield _counter("hplus_job_failures", "Runs that failed", {state: state.failures for state in states})


def _gauge(name: str, documentation: str, values: dict[JobState, float]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=["job"])
    for state, value in values.items():
        family.add_metric([state.name], value)
    return family


def _counter(name: str, documentation: str, values: dict[JobState, int]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=["job"])
    for state, value in values.items():
        family.add_metric([state.name], value)
    return family


REGISTRY.register(JobMetrics())
