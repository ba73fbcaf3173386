"""Percentiles of a hospital's response times, compared with its targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db.models import F
from django.utils import timezone

from emergency.models import Emergency, HospitalPolicy, default_targets
from hplus import errors
from hplus.accounts.models import User
from hplus.protocol.wire import Shape

# step → the column with its time
STEPS = {"alert": "alerted_at", "accept": "accepted_at", "scene": "on_scene_at"}


class StepTimes(Shape):
    """Seconds from the call to one step, as percentiles; null where no emergency reached it."""

    count: int
    p50: float | None
    p90: float | None
    p99: float | None
    target_seconds: float
    within_target: float | None


class HospitalTimes(Shape):
    """The response times of a hospital since a time; `withinTarget` is a share from 0 to 1."""

    hospital_id: str
    since: datetime
    emergencies: int
    steps: dict[str, StepTimes]


def of_hospital(hospital_id: str, days: int) -> HospitalTimes:
    """Return the response times of the last days, for alert, acceptance and arrival at the scene."""
    since = timezone.now() - timedelta(days=days)
    emergencies = Emergency.objects.filter(hospital=hospital_id, requested_at__gte=since)
    targets = {**default_targets(), **HospitalPolicy.of(hospital_id).targets}
    steps = {}
    for step, column in STEPS.items():
        reached = emergencies.exclude(**{column: None}).annotate(waited=F(column) - F("requested_at"))
        seconds = sorted(waited.total_seconds() for waited in reached.values_list("waited", flat=True))
        steps[step] = _times(seconds, targets[step])
    return HospitalTimes(hospital_id=hospital_id, since=since, emergencies=emergencies.count(), steps=steps)


def own_hospital(user: User, days: int) -> HospitalTimes:
    """Return the response times of the user's hospital. Raises Forbidden for anybody but staff."""
    if user.is_patient or user.hospital_id is None:
        raise errors.Forbidden("Only staff of a hospital may see its response times.")
    return of_hospital(user.hospital_id, days)


def _times(seconds: Sequence[float], target_s: float) -> StepTimes:
    return StepTimes(
        count=len(seconds),
        p50=percentile(seconds, 50),
        p90=percentile(seconds, 90),
        p99=percentile(seconds, 99),
        target_seconds=target_s,
        within_target=sum(s <= target_s for s in seconds) / len(seconds) if seconds else None,
    )


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """Return the nearest-rank percentile of sorted seconds, in milliseconds' precision; None of none."""
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)], 3)
