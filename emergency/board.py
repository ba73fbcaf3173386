"""The data of a hospital's live board: open emergencies, staff online, positions and response times."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from django.urls import reverse
from django.utils import timezone

from emergency import response_times
from emergency.bounds import bounded
from emergency.case_report import STALLS
from emergency.current_state import states_of
from emergency.models import Emergency
from emergency.status import Status
from hplus import errors
from hplus.accounts.actions import find_hospital
from hplus.accounts.models import Hospital, User
from hplus.protocol.wire import Shape
from hplus.realtime.models import Presence, PresenceStatus
from location.actions import latest_at
from location.models import Latest

MAX_ROWS = 200
DAYS = 1
NOT_READABLE: dict[str, Any] = {"condition": "", "patient": "", "news2": None}
PRIORITIES = ("critical", "high", "medium", "low")


class BoardEmergency(Shape):
    """One open emergency."""

    emergency_id: str
    url: str
    priority: str
    status: str
    phase: str | None
    condition: str
    patient: str
    address: str | None
    requested_at: datetime
    stalled: str | None
    assignee: str | None
    assignee_id: str | None
    eta_seconds: int | None
    escalation_level: int
    escalate_at: datetime | None
    news2: dict[str, Any] | None
    lat: float
    lng: float


class BoardPerson(Shape):
    """A member of the staff who is online."""

    user_id: str
    name: str
    role: str
    status: str


class BoardUnit(Shape):
    """A user whose position the hospital's staff may see now."""

    user_id: str
    name: str
    role: str
    lat: float
    lng: float
    at: datetime
    is_stale: bool
    emergency_id: str | None


class BoardHospital(Shape):
    """The hospital and its diversion."""

    hospital_id: str
    name: str
    on_diversion: bool
    diversion_reason: str
    diversion_until: datetime | None


class Board(Shape):
    """Everything on the live board at one time."""

    now: datetime
    hospital: BoardHospital
    emergencies: list[BoardEmergency]
    open_count: int
    people: list[BoardPerson]
    units: list[BoardUnit]
    times: response_times.HospitalTimes


def hospital_for(user: User, requested_id: str = "") -> Hospital | None:
    """Return the user's hospital; for a superuser the requested one, else the first; None without any.

    Raises HospitalNotFound, also where a user requests another hospital.
    """
    if not user.is_superuser:
        if requested_id and requested_id != user.hospital_id:
            raise errors.HospitalNotFound()
        return user.hospital
    return find_hospital(requested_id) if requested_id else user.hospital or Hospital.objects.first()


def board_of(
    hospital: Hospital, shown: list[Emergency], readable: Collection[str], *, open_count: int
) -> Board:
    """Read the board, with a fixed number of queries.

    `shown` are the hospital's emergencies on it, `readable` the ids of those whose chart is shown, and
    `open_count` is how many are open.
    """
    hospital_row = BoardHospital(
        hospital_id=hospital.pk,
        name=hospital.name,
        on_diversion=hospital.is_on_diversion,
        diversion_reason=hospital.diversion_reason,
        diversion_until=hospital.diversion_until,
    )
    return Board(
        now=timezone.now(),
        hospital=hospital_row,
        emergencies=_rows(shown, readable),
        open_count=open_count,
        people=_people(hospital),
        units=[_unit(row) for row in latest_at(hospital.pk)],
        times=response_times.of_hospital(hospital.pk, days=DAYS),
    )


def urgency(emergency: Emergency) -> tuple[Any, ...]:
    """Return the sort key: pending first; then by priority, escalation level and waiting time."""
    return (
        emergency.status != Status.PENDING,
        PRIORITIES.index(emergency.priority),
        -emergency.escalation_level,
        emergency.requested_at,
    )


def rows_shown(opened: Iterable[Emergency]) -> list[Emergency]:
    """Return those that have a place on the board, the most urgent ones, in order."""
    return sorted(opened, key=urgency)[:MAX_ROWS]


def _rows(shown: list[Emergency], readable: Collection[str]) -> list[BoardEmergency]:
    states = states_of(shown)
    rows = [_row(emergency, state.eta_seconds) for emergency, state in zip(shown, states, strict=True)]
    return [row if row.emergency_id in readable else row.model_copy(update=NOT_READABLE) for row in rows]


def _row(emergency: Emergency, eta_seconds: int | None) -> BoardEmergency:
    assignee = emergency.assigned_to
    return BoardEmergency(
        emergency_id=emergency.pk,
        url=reverse("admin:emergency_emergency_change", args=[emergency.pk]),
        priority=emergency.priority,
        status=emergency.status,
        phase=emergency.phase,
        condition=emergency.condition[:300],
        patient=(emergency.patient_name or emergency.patient_id)[:100],
        address=bounded("address", emergency.address),
        requested_at=emergency.requested_at,
        stalled=STALLS.get(emergency.stalled_cause),
        assignee=assignee.display_name if assignee else None,
        assignee_id=emergency.assigned_to_id,
        eta_seconds=None if emergency.on_scene_at else eta_seconds,
        escalation_level=emergency.escalation_level,
        escalate_at=emergency.escalate_at,
        news2=emergency.current_news2(timezone.now()),
        lat=emergency.lat,
        lng=emergency.lng,
    )


def _people(hospital: Hospital) -> list[BoardPerson]:
    online = Presence.objects.filter(user__in=User.objects.staff_of(hospital.pk))
    online = online.exclude(status=PresenceStatus.OFFLINE).select_related("user")
    return [
        BoardPerson(user_id=one.pk, name=one.user.display_name, role=one.user.role, status=one.status)
        for one in online.order_by("user__role", "user__name", "user_id")
    ]


def _unit(row: Latest) -> BoardUnit:
    return BoardUnit(
        user_id=row.user_id,
        name=row.user.display_name,
        role=row.user.role,
        lat=row.lat,
        lng=row.lng,
        at=row.at,
        is_stale=row.is_stale(timezone.now()),
        emergency_id=row.reason_id or None,
    )
