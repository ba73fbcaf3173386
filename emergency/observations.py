"""Score a set of observations, and notify the responsible staff when a patient gets worse."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from emergency.models import READINGS_COUNT_FOR, Emergency, Entry, EntryKind
from emergency.news2 import has_worsened, news2
from emergency.notices import notify_staff
from emergency.vitals import Readings, latest_as_sent, read_vitals, withdrawn_by
from hplus.accounts.models import Role, User
from hplus.protocol.wire import rfc3339

CLINICIANS = (Role.DOCTOR, Role.NURSE, Role.PARAMEDIC)


def observe(emergency: Emergency, user: User, vitals: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Score one set of observations; return the data of its timeline entry.

    A reading that the set names but that is unreadable withdraws the earlier one. Earlier readings of the
    last 60 minutes count for the score; only a set with all seven completes it.
    """
    readings, unreadable = read_vitals(vitals, by_clinician=user.role in CLINICIANS)
    withdrawn = withdrawn_by(vitals, readings)
    earlier = {} if emergency._state.adding else _recent_readings(emergency, now)
    kept = {name: value for name, value in earlier.items() if name not in withdrawn}
    before, emergency.readings = emergency.current_news2(now), {**kept, **readings}
    emergency.vitals = latest_as_sent(emergency.vitals, vitals)
    emergency.news2 = _score(emergency, set(readings), user, now)
    named = (f"vitals.{key}" for key in unreadable)
    emergency.warnings = [*emergency.warnings, *(name for name in named if name not in emergency.warnings)]
    return {
        "readings": readings,
        "withdrawn": sorted(withdrawn),
        "news2": emergency.news2,
        "worsened": has_worsened(before, emergency.news2),
    }


def score_again(emergency: Emergency) -> None:
    """Score the same readings after the patient's age or pregnancy became known."""
    if emergency.news2 is None:
        return
    same_set = emergency.readings if emergency.news2["complete"] else ()
    taken = {key: emergency.news2[key] for key in ("observedAt", "observedBy") if key in emergency.news2}
    scored = news2(emergency.readings, same_set=set(same_set), not_applicable=emergency.news2_not_applicable)
    emergency.news2 = scored and {**scored, **taken}


def _score(emergency: Emergency, same_set: set[str], user: User, now: datetime) -> dict[str, Any] | None:
    scored = news2(emergency.readings, same_set=same_set, not_applicable=emergency.news2_not_applicable)
    return scored and {**scored, "observedAt": rfc3339(now), "observedBy": user.pk}


def _recent_readings(emergency: Emergency, now: datetime) -> Readings:
    """The latest reading of each name from the last 60 minutes that no later set has withdrawn."""
    recent = Entry.objects.filter(
        emergency=emergency, kind=EntryKind.VITALS, at__gt=now - READINGS_COUNT_FOR
    ).order_by("at", "entry_id")
    readings: Readings = {}
    for entry in recent:
        for name in entry.data.get("withdrawn", ()):
            readings.pop(name, None)
        readings.update(entry.data["readings"])
    return readings


def notify_if_worse(emergency: Emergency, observed: dict[str, Any] | None) -> None:
    """Notify the assignee and the hospital's doctors where the set shows a patient who got worse."""
    if not observed or not observed["worsened"]:
        return
    score = observed["news2"]
    staff = User.objects.staff_of(emergency.hospital_id)
    doctors = staff.filter(role=Role.DOCTOR) | staff.filter(pk=emergency.assigned_to_id)
    least = "" if score["complete"] else "at least "
    notify_staff(
        emergency,
        doctors.values_list("pk", flat=True),
        category="deteriorating",
        title="A patient is getting worse",
        body=f"NEWS2 is {least}{score['score']}: {emergency.condition[:200]}",
        body_without_chart=f"An emergency of priority {emergency.priority}.",
        data={"emergencyId": emergency.pk},
        of_chart={"news2": score},
    )
