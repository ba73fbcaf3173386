"""The words of an emergency."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self

from django.utils import timezone
from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints, model_validator
from pydantic.json_schema import SkipJsonSchema

from emergency.lenient import LenientObject, LenientText, Sent, SentFlag, SentNumber, SentObject, as_id
from emergency.models import Emergency, Entry
from emergency.status import Phase, Status
from hplus.protocol.wire import Durable, Event, Id, Latitude, Longitude, OptionalId, Request, Shape, missing

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


def _tidy(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


# What a client says


class Scene(Shape):
    """Where help is needed, in degrees (WGS 84)."""

    lat: Latitude
    lng: Longitude
    address: Sent = None


class RequestHelp(Request):
    """Somebody needs help here."""

    type = "emergencyRequest"
    rate_limited = False
    urgent = True

    patient_id: Id
    hospital_id: Id
    location: Scene
    condition: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    priority: Annotated[Literal["low", "medium", "high", "critical"], BeforeValidator(_tidy)]
    patient_name: Sent = None
    patient_phone: Sent = None
    description: Sent = None
    vitals: SentObject = None
    patient_age: SentNumber = None
    patient_sex: Sent = None
    is_pregnant: SentFlag = None
    request_id: Annotated[str | None, BeforeValidator(partial(as_id, most=150))] = None
    client_message_id: Annotated[str | None, BeforeValidator(partial(as_id, most=64))] = None
    original: SkipJsonSchema[dict[str, Any]] = Field(default_factory=dict, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _keep_what_was_sent(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        own = cls.model_fields
        return {**given, "original": {own[k].alias or k if k in own else k: v for k, v in given.items()}}


class Respond(Request):
    """I take this emergency, or I can't."""

    type = "emergencyResponse"
    rate_limited = False
    urgent = True
    emergency_id: Id
    action: Literal["accept", "reject"]
    estimated_arrival: LenientText = None
    response_notes: LenientText = None
    rejection_reason: LenientText = None


class UpdateStatus(Request):
    """This is how it stands with the emergency."""

    type = "emergencyStatusUpdate"
    emergency_id: Id
    status: Status | None = Field(default=None, examples=["in_progress"])
    phase: Phase | None = None
    notes: LenientText = None
    vitals: LenientObject = None
    completion_details: LenientObject = None

    @model_validator(mode="after")
    def _says_where_it_stands(self) -> Self:
        if self.status is None and self.phase is None:
            raise missing("status")
        return self


class Reassign(Request):
    """From now on this person takes the emergency."""

    type = "emergencyReassign"
    emergency_id: Id
    assignee_id: Id
    reason: Reason


class Transfer(Request):
    """This emergency goes to another hospital."""

    type = "emergencyTransfer"
    emergency_id: Id
    to_hospital_id: Id
    reason: Reason


class SetDiversion(Request):
    """My hospital can take nobody for now, or can again."""

    type = "hospitalStatus"
    on_diversion: bool
    reason: Annotated[str | None, StringConstraints(max_length=500)] = None
    until: AwareDatetime | None = None


class FindNearest(Request):
    """Who of us is closest to this emergency?"""

    type = "nearestResponders"
    emergency_id: Id


class WatchBoard(Request):
    """I have the board of this hospital before me."""

    type = "watchBoard"
    hospital_id: OptionalId = None


# What HPlus says


class Place(Shape):
    lat: float
    lng: float
    address: str | None


class EmergencyRequest(Shape):
    """An emergency as every reader gets it: the guide's keys, then HPlus's own."""

    emergency_id: str
    patient_id: str
    patient_name: str | None
    patient_phone: str | None
    hospital_id: str
    location: Place
    condition: str
    description: str | None
    priority: str
    status: str
    timestamp: datetime
    requested_by: str
    requested_by_role: str
    assigned_to: str | None
    assigned_role: str | None
    estimated_arrival: str | None
    vitals: dict[str, Any] | None
    phase: str | None
    news2: dict[str, Any] | None
    times: dict[str, str]
    eta_seconds: int | None
    possible_duplicate_of: str | None
    escalation_level: int
    version: int
    warnings: list[str]
    patient_age: int | None = None
    patient_sex: str | None = None
    is_pregnant: bool | None = None

    _SAME: ClassVar[tuple[str, ...]] = (
        "emergency_id", "patient_id", "patient_name", "patient_phone", "hospital_id", "condition",
        "description", "priority", "status", "requested_by_role", "assigned_role", "estimated_arrival",
        "vitals", "phase", "times", "possible_duplicate_of", "escalation_level", "version",
        "warnings", "patient_age", "patient_sex", "is_pregnant",
    )  # fmt: skip

    @classmethod
    def of(cls, emergency: Emergency, eta_seconds: int | None = None) -> Self:
        return cls(
            location=Place(lat=emergency.lat, lng=emergency.lng, address=emergency.address),
            timestamp=emergency.requested_at,
            requested_by=emergency.requested_by_id,
            assigned_to=emergency.assigned_to_id,
            eta_seconds=eta_seconds,
            news2=emergency.current_news2(timezone.now()),
            **{name: getattr(emergency, name) for name in cls._SAME},
        )


class _FromEntry(Durable):
    """Something happened in an emergency; told now, and told again, from the timeline's entry."""

    entry_id: str = Field(exclude=True)

    def subject(self) -> str:
        return self.entry_id

    @classmethod
    def of(cls, entry: Entry) -> Self:
        return cls(entry_id=entry.pk, data=entry.data)  # type: ignore[call-arg]

    @classmethod
    def rebuild(cls, subjects: Iterable[str]) -> dict[str, Durable]:
        return {entry.pk: cls.of(entry) for entry in Entry.objects.filter(pk__in=list(subjects))}


class EmergencyCreated(_FromEntry):
    """Your call for help is stored; this is its id."""

    type = "emergencyCreated"
    emergency_id: str
    data: EmergencyRequest

    @classmethod
    def of(cls, entry: Entry) -> Self:
        return cls(entry_id=entry.pk, emergency_id=entry.emergency_id, data=entry.data["emergency"])

    def topic(self) -> str:
        return self.emergency_id


class EmergencyAlert(_FromEntry):
    """Somebody needs help, and you may take it."""

    type = "emergencyAlert"
    flattened = True
    data: EmergencyRequest

    @classmethod
    def of(cls, entry: Entry) -> Self:
        return cls(entry_id=entry.pk, data=entry.data["emergency"])

    def topic(self) -> str:
        return self.data.emergency_id

    def author(self) -> str:
        return self.data.requested_by

    def push_category(self) -> str:
        return "emergency"


class Response(Shape):
    emergency_id: str
    action: Literal["accept", "reject"]
    status: str
    responder_id: str
    responder_name: str
    responder_role: str
    assigned_to: str | None
    assigned_role: str | None
    estimated_arrival: str | None
    response_notes: str | None
    rejection_reason: str | None
    timestamp: datetime
    emergency: EmergencyRequest


class EmergencyResponse(_FromEntry):
    """Somebody has taken the emergency, or can't."""

    type = "emergencyResponse"
    data: Response

    def topic(self) -> str:
        return self.data.emergency_id

    def author(self) -> str:
        return self.data.responder_id

    def push_category(self) -> str:
        return "emergency"


class StatusChange(Shape):
    emergency_id: str
    status: str
    previous_status: str | None
    phase: str | None
    notes: str | None
    vitals: dict[str, Any] | None
    completion_details: dict[str, Any] | None
    updated_by: str
    updated_by_role: str
    timestamp: datetime
    emergency: EmergencyRequest


class EmergencyStatusUpdate(_FromEntry):
    """The emergency has come this far."""

    type = "emergencyStatusUpdate"
    data: StatusChange

    def topic(self) -> str:
        return self.data.emergency_id

    def author(self) -> str:
        return self.data.updated_by


class HospitalStatus(Event):
    """This hospital can take nobody for now, or can again."""

    type = "hospitalStatus"
    hospital_id: str
    on_diversion: bool
    reason: str | None
    until: datetime | None
    updated_by: str | None
    timestamp: datetime

    def subject(self) -> str:
        return self.hospital_id


class Responder(Shape):
    """One of the staff, seen from the emergency."""

    user_id: str
    name: str
    distance_meters: float
    eta_seconds: int | None
    fix_age: float


class NearestResponders(Event):
    """These are the closest, the nearest first."""

    type = "nearestResponders"
    emergency_id: str
    data: list[Responder]


class BoardWatched(Event):
    """From now on you hear when the board of this hospital changes."""

    type = "boardWatched"
    hospital_id: str


class BoardChanged(Event):
    """Something has changed on the board of this hospital; look again."""

    type = "boardChanged"
    hospital_id: str
    emergency_id: str

    def subject(self) -> str:
        return self.emergency_id
