"""What a hospital's board shows: what is open, who is there, where they are, how long people wait."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.urls import reverse
from django.utils import timezone

from emergency import audience, response_times
from emergency.models import Emergency
from emergency.status import Status
from hplus import errors
from hplus.accounts.actions import find_hospital
from hplus.accounts.models import Hospital, User
from hplus.protocol.wire import Shape
from hplus.realtime.models import Presence
from hplus.realtime.models import PresenceStatus as Presently
from location.actions import latest_at
from location.models import Latest

SHOWN = 200
DAYS = 1
PRIORITIES = ("critical", "high", "medium", "low")


class Row(Shape):
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
    assignee: str | None
    assignee_id: str | None
    eta_seconds: int | None
    escalation_level: int
    escalate_at: datetime | None
    news2: dict[str, Any] | None
    lat: float
    lng: float


class Person(Shape):
    """One of the staff who is there."""

    user_id: str
    name: str
    role: str
    status: str


class Unit(Shape):
    """Somebody whose position the hospital may see now."""

    user_id: str
    name: str
    role: str
    lat: float
    lng: float
    at: datetime
    is_stale: bool
    emergency_id: str | None


class House(Shape):
    hospital_id: str
    name: str
    on_diversion: bool
    diversion_reason: str
    diversion_until: datetime | None


class Board(Shape):
    """Everything on the board, as it stands now."""

    now: datetime
    hospital: House
    emergencies: list[Row]
    open_count: int
    people: list[Person]
    units: list[Unit]
    times: response_times.HospitalTimes


def hospital_for(user: User, asked: str = "") -> Hospital | None:
    """The own hospital, or the one a superuser names, else the first; None where there is none.

    Raises HospitalNotFound, also for another hospital than one's own.
    """
    if not user.is_superuser:
        if asked and asked != user.hospital_id:
            raise errors.HospitalNotFound()
        return user.hospital
    return find_hospital(asked) if asked else user.hospital or Hospital.objects.first()


def board_of(hospital: Hospital) -> Board:
    """As many queries for one emergency as for two hundred."""
    opened = Emergency.objects.open().filter(hospital=hospital)
    house = House(
        hospital_id=hospital.pk,
        name=hospital.name,
        on_diversion=hospital.is_on_diversion,
        diversion_reason=hospital.diversion_reason,
        diversion_until=hospital.diversion_until,
    )
    return Board(
        now=timezone.now(),
        hospital=house,
        emergencies=_rows(opened),
        open_count=opened.count(),
        people=_people(hospital),
        units=[_unit(row) for row in latest_at(hospital.pk)],
        times=response_times.of_hospital(hospital.pk, days=DAYS),
    )


def urgency(emergency: Emergency) -> tuple[Any, ...]:
    """What nobody has taken stands first; then by priority, by escalation, and who has waited longest."""
    return (
        emergency.status != Status.PENDING,
        PRIORITIES.index(emergency.priority),
        -emergency.escalation_level,
        emergency.requested_at,
    )


def _rows(opened: Iterable[Emergency]) -> list[Row]:
    found = sorted(opened.select_related("assigned_to"), key=urgency)[:SHOWN]  # type: ignore[attr-defined]
    shown = audience.shown_all(found)
    return [_row(emergency, visible.eta_seconds) for emergency, visible in zip(found, shown, strict=True)]


def _row(emergency: Emergency, eta_seconds: int | None) -> Row:
    assignee = emergency.assigned_to
    return Row(
        emergency_id=emergency.pk,
        url=reverse("admin:emergency_emergency_change", args=[emergency.pk]),
        priority=emergency.priority,
        status=emergency.status,
        phase=emergency.phase,
        condition=emergency.condition[:300],
        patient=(emergency.patient_name or emergency.patient_id)[:100],
        address=emergency.address,
        requested_at=emergency.requested_at,
        assignee=assignee.display_name if assignee else None,
        assignee_id=emergency.assigned_to_id,
        eta_seconds=None if emergency.on_scene_at else eta_seconds,  # whoever is there does not arrive
        escalation_level=emergency.escalation_level,
        escalate_at=emergency.escalate_at,
        news2=emergency.current_news2(timezone.now()),
        lat=emergency.lat,
        lng=emergency.lng,
    )


def _people(hospital: Hospital) -> list[Person]:
    there = Presence.objects.filter(user__in=User.objects.staff_of(hospital.pk))
    there = there.exclude(status=Presently.OFFLINE).select_related("user")
    return [
        Person(user_id=one.pk, name=one.user.display_name, role=one.user.role, status=one.status)
        for one in there.order_by("user__role", "user__name", "user_id")
    ]


def _unit(row: Latest) -> Unit:
    return Unit(
        user_id=row.user_id,
        name=row.user.display_name,
        role=row.user.role,
        lat=row.lat,
        lng=row.lng,
        at=row.at,
        is_stale=row.is_stale(timezone.now()),
        emergency_id=row.reason_id or None,
    )
