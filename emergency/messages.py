"""Emergencies: calling for help, alerts, responses, status, transfers, diversion and the live board."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self

from django.utils import timezone
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import SkipJsonSchema

from emergency.bounds import bounded, bounded_fields, bounded_warnings
from emergency.dispatching import is_dispatcher
from emergency.lenient import (
    OLDEST_YEARS,
    AnyFlag,
    AnyNumber,
    AnyObject,
    AnyText,
    LenientObject,
    LenientText,
    as_id,
    as_text,
)
from emergency.models import Emergency, Entry
from emergency.status import Phase, Status
from emergency.visibility import View, views_of_entries
from hplus.accounts.models import User
from hplus.protocol.numbers import names_of_unbounded, unbounded_as_text, without_unbounded
from hplus.protocol.texts import keyword, must_be_visible
from hplus.protocol.times import Moment, must_be_ahead
from hplus.protocol.wire import (
    REMOVED,
    Durable,
    Event,
    Id,
    Latitude,
    Longitude,
    OptionalId,
    Request,
    Shape,
    missing,
)
from location.geo import is_nowhere

Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=500),
    AfterValidator(must_be_visible),
]


def _as_keyword(value: Any) -> Any:
    return keyword(value) if isinstance(value, str) else value


def _is_somewhere(place: Scene | None) -> Scene | None:
    if place is not None and is_nowhere(place.lat, place.lng):
        raise ValueError("is 0/0, where a phone is that has no position")
    return place


PriorityName = Annotated[Literal["low", "medium", "high", "critical"], BeforeValidator(_as_keyword)]


# Requests


class Scene(Shape):
    """Where help is needed, in degrees (WGS 84)."""

    lat: Latitude
    lng: Longitude
    address: AnyText = None


class RequestHelp(Request):
    """Call for help: a patient any hospital, staff their own.

    The `ack` has the `emergencyId`; you get `emergencyCreated` and `emergencyStatusUpdate`, the hospital's
    staff `emergencyAlert`. It is never rate limited, and no optional field of another type makes it fail:
    `warnings` names those that were not understood. Sent again with the same `clientMessageId`, it alerts
    nobody twice and gets the same answer.
    """

    type = "emergencyRequest"
    rate_limited = False
    urgent = True
    takes_unbounded_numbers = True

    patient_id: Id
    hospital_id: Id
    location: Scene
    condition: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(must_be_visible)
    ]
    priority: PriorityName
    patient_name: AnyText = None
    patient_phone: AnyText = None
    description: AnyText = None
    vitals: AnyObject = None
    patient_age: AnyNumber = None
    patient_sex: AnyText = None
    is_pregnant: AnyFlag = None
    request_id: Annotated[str | None, BeforeValidator(partial(as_id, most=150))] = None
    client_message_id: Annotated[str | None, BeforeValidator(partial(as_id, most=64))] = None
    original: SkipJsonSchema[dict[str, Any]] = Field(default_factory=dict, exclude=True)
    # Fields with a number that is not bounded: null here, its text in `original`.
    unbounded_numbers: SkipJsonSchema[list[str]] = Field(default_factory=list, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _keep_original(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        own = cls.model_fields
        original = {own[k].alias or k if k in own else k: v for k, v in given.items()}
        unbounded = names_of_unbounded(original)
        if unbounded:
            given, original = without_unbounded(given), unbounded_as_text(original)
        return {**given, "original": original, "unboundedNumbers": unbounded}


class Respond(Request):
    """Accept an emergency (`action: accept`) or decline it (`reject`), as staff of its hospital.

    For the roles that accept there by the hospital's policy, and for who was alerted to it. The first to
    accept becomes the assignee; `error` EMERGENCY_ALREADY_ASSIGNED for the others. Everybody concerned gets
    `emergencyResponse`. A `reject` by the assignee gives the emergency back: it is pending again, and the
    others are alerted anew; `error` INVALID_TRANSITION from the phase `atPatient` on, when only an admin can
    reassign it.
    """

    type = "emergencyResponse"
    rate_limited = False
    urgent = True
    emergency_id: Id
    action: Annotated[Literal["accept", "reject"], BeforeValidator(_as_keyword)]
    estimated_arrival: LenientText = None
    response_notes: LenientText = None
    rejection_reason: LenientText = None


class UpdateStatus(Request):
    """Report the status or the phase of an emergency, with notes and vital signs.

    For the assignee and the hospital's admins; the requester may set `cancelled` until somebody is on the
    way. Who cancels a call of somebody else says why in `notes`; who called gets a notice and may object.
    Everybody concerned gets `emergencyStatusUpdate`, with the NEWS2 score of the vital signs. `error`
    INVALID_TRANSITION where the emergency can't take that status. A phase before the present one changes
    nothing and is named in the `ack`'s `warnings`, unless `correction` is true: then the later times go, too.
    """

    type = "emergencyStatusUpdate"
    emergency_id: Id
    status: Annotated[Status | None, BeforeValidator(_as_keyword)] = Field(
        default=None, examples=["in_progress"]
    )
    phase: Phase | None = None
    correction: bool = False
    notes: LenientText = None
    vitals: LenientObject = None
    completion_details: LenientObject = None
    # An amendment on the way; one that can't be read or done is named in the ack's `warnings`.
    priority: AnyText = None
    location: AnyObject = None

    @model_validator(mode="after")
    def _must_have_status_or_phase(self) -> Self:
        if self.status is None and self.phase is None:
            raise missing("status")
        return self


class Changes(Shape):
    """What is to be different; a field that is absent or null stays as it is."""

    priority: Annotated[
        Literal["low", "medium", "high", "critical"] | None,
        BeforeValidator(_as_keyword),
        Field(examples=["critical"]),
    ] = None
    location: Annotated[Scene | None, AfterValidator(_is_somewhere)] = None
    condition: Annotated[str | None, StringConstraints(min_length=1, max_length=2000)] = None
    description: Annotated[str | None, StringConstraints(max_length=4000)] = None
    patient_name: Annotated[str | None, StringConstraints(max_length=200)] = None
    patient_phone: Annotated[str | None, StringConstraints(max_length=50)] = None
    patient_age: Annotated[int | None, Field(ge=0, le=OLDEST_YEARS)] = None
    patient_sex: Literal["female", "male", "other", "unknown"] | None = None
    is_pregnant: bool | None = None
    caller_name: Annotated[str | None, StringConstraints(max_length=200)] = None
    caller_relation: Annotated[str | None, StringConstraints(max_length=200)] = None
    callback_phone: Annotated[str | None, StringConstraints(max_length=50)] = None
    access_notes: Annotated[str | None, StringConstraints(max_length=2000)] = None


class Amend(Request):
    """Correct what is known of an open emergency.

    By its assignee and the hospital's admins; the requester only `location`, `description` and `accessNotes`.
    All who hear of the emergency get `emergencyAmended` and an `emergencyStatusUpdate` with the status as it
    was. A higher priority, or a place more than 50 m from the one before, alerts again while nobody has
    accepted. Where `version` is not the current one, nothing changes and the answer is `VERSION_CONFLICT`.
    Who called may object with empty `changes` within a minute where others have cancelled it: it is pending
    again, and the staff are alerted anew.
    """

    type = "emergencyAmend"
    emergency_id: Id
    version: int | None = None
    changes: Changes
    reason: Reason


class ConfirmPatient(Request):
    """Answer whether you are the patient of an emergency that somebody else called for.

    Only the person whose userId was named, once, as asked by the notice `areYouThePatient`. With `isMe: true`
    that person reads the emergency, and its staff see the person's position and presence while it is open.
    """

    type = "emergencyConfirmPatient"
    urgent = True
    emergency_id: Id
    is_me: bool


class Reassign(Request):
    """Assign an open emergency to a member of the hospital's staff, as an admin of the hospital.

    The assignee gets `emergencyAlert` unless alerted before, everybody concerned `emergencyStatusUpdate`.
    From the phase `atPatient` on the next one takes over phase and times, else both begin anew. `error`
    FORBIDDEN for others than admins, USER_NOT_FOUND where `assigneeId` is not of the hospital's
    staff, INVALID_TRANSITION once the emergency has ended.
    """

    type = "emergencyReassign"
    emergency_id: Id
    assignee_id: Id
    reason: Reason


class AcknowledgeEscalation(Request):
    """Confirm, as a dispatcher, that you have seen an emergency that nobody accepts or that has stalled.

    HPlus asks nobody about it for five minutes, then goes on unless somebody has acted. All dispatchers and
    the staff concerned get `emergencyEscalationAcked`. `error` INVALID_TRANSITION where nothing waits for it.
    """

    type = "emergencyEscalationAck"
    urgent = True
    emergency_id: Id
    note: Annotated[str | None, StringConstraints(max_length=500)] = None


class Transfer(Request):
    """Hand an open emergency over to another hospital: it is pending there, and its staff are alerted.

    For the assignee or an admin; while nobody is assigned, for any of the staff. Everybody concerned gets
    `emergencyStatusUpdate`; the first hospital keeps its part of the record, up to that. Once the crew is
    with the patient, from phase `atPatient` on, it is refused with `INVALID_TRANSITION`.
    """

    type = "emergencyTransfer"
    emergency_id: Id
    to_hospital_id: Id
    reason: Reason


class SetDiversion(Request):
    """Put your hospital on diversion, as its admin, or end the diversion; `until` ends it by itself.

    `until` lies ahead, by ten years at most.

    Staff, and patients who joined the hospital, get `hospitalStatus`. A call for help is still accepted.
    """

    type = "hospitalStatus"
    on_diversion: bool
    reason: Annotated[str | None, StringConstraints(max_length=500)] = None
    until: Moment | None = None

    @model_validator(mode="after")
    def _must_end_ahead(self) -> Self:
        if self.on_diversion and self.until is not None:
            must_be_ahead(self.until, "until")
        return self


class FindNearestResponders(Request):
    """Ask which of the hospital's staff are nearest to an emergency. For staff of that hospital.

    The answer is `nearestResponders`, with those whose position is fresh. `error` FORBIDDEN for others.
    """

    type = "nearestResponders"
    emergency_id: Id


class WatchBoard(Request):
    """Subscribe this connection to everything that changes on a hospital's live board. For its admins.

    The answer is `boardWatched`; then `boardChanged` comes with each change. A superuser names the hospital.
    """

    type = "watchBoard"
    hospital_id: OptionalId = None


# Events


class Place(Shape):
    """Where help is needed, in degrees (WGS 84)."""

    lat: float
    lng: float
    address: str | None


class EmergencyRequest(Shape):
    """An emergency as it stands: the guide's fields, then those of HPlus."""

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
    caller_name: str | None = None
    caller_relation: str | None = None
    callback_phone: str | None = None
    access_notes: str | None = None
    patient_age: int | None = None
    patient_sex: str | None = None
    is_pregnant: bool | None = None

    _COPIED: ClassVar[tuple[str, ...]] = (
        "emergency_id", "patient_id", "patient_name", "patient_phone", "hospital_id", "condition",
        "description", "priority", "status", "requested_by_role", "assigned_role", "estimated_arrival",
        "vitals", "phase", "times", "possible_duplicate_of", "escalation_level", "version",
        "warnings", "patient_age", "patient_sex", "is_pregnant",
        "caller_name", "caller_relation", "callback_phone", "access_notes",
    )  # fmt: skip

    @classmethod
    def of(cls, emergency: Emergency, eta_seconds: int | None = None) -> Self:
        """With bounded texts; `warnings` names those that are longer in the row."""
        address = bounded("address", emergency.address)
        copied, whole = bounded_fields({name: getattr(emergency, name) for name in cls._COPIED})
        longer = [*map(to_camel, whole), *(["location.address"] if address != emergency.address else [])]
        copied["warnings"] = bounded_warnings(dict.fromkeys([*longer, *emergency.warnings]))
        return cls(
            location=Place(lat=emergency.lat, lng=emergency.lng, address=address),
            timestamp=emergency.requested_at,
            requested_by=emergency.requested_by_id,
            assigned_to=emergency.assigned_to_id,
            eta_seconds=eta_seconds,
            news2=emergency.current_news2(timezone.now()),
            **copied,
        )

    def for_patient(self) -> Self:
        """Return it for the patient: without what tells of other emergencies."""
        return self.model_copy(update={"possible_duplicate_of": None})

    def for_caller(self, original: dict[str, Any]) -> Self:
        """Return it for a caller who is not the patient: who comes and when, and the caller's own words.

        `original` is the call as it was sent; what it did not say is not shown. It is empty once the
        emergency is anonymised, and so is the condition then.
        """
        said = {field: bounded(field, as_text(original.get(name))) for field, name in _SAID.items()}
        said["condition"] = said["condition"] or REMOVED
        hidden = dict.fromkeys(_NOT_FOR_CALLER)
        warnings = [name for name in self.warnings if not name.startswith("vitals")]
        return self.model_copy(update={**said, **hidden, "warnings": warnings})


# What a caller may say of the patient: field → name in the call.
_SAID = {
    "patient_name": "patientName", "patient_phone": "patientPhone", "condition": "condition",
    "description": "description",
}  # fmt: skip
_NOT_FOR_CALLER = (
    "vitals",
    "news2",
    "patient_age",
    "patient_sex",
    "is_pregnant",
    "possible_duplicate_of",
    "caller_name",
    "caller_relation",
    "callback_phone",
    "access_notes",
)


class EntryEvent(Durable):
    """An event of an emergency, made and rebuilt from the entry of its timeline."""

    entry_id: str = Field(exclude=True)

    def subject(self) -> str:
        return self.entry_id

    @classmethod
    def of(cls, entry: Entry) -> Self:
        return cls(entry_id=entry.pk, data=entry.data)  # type: ignore[call-arg]

    @classmethod
    def shown_to(cls, user: User, entry: Entry, view: View | None) -> View | None:
        """Return the view in which the event is replayed to this user, who has that view of the entry."""
        return view

    @classmethod
    def of_for(cls, entry: Entry, view: View) -> Self:
        """Return the event as who has this view gets it."""
        event = cls.of(entry)
        if view is View.STAFF:
            return event
        data: Any = event.data  # type: ignore[attr-defined]
        shown = data.for_caller(entry.emergency.original) if view is View.CALLER else for_patient(data)
        return event.model_copy(update={"data": shown, "entry_id": subject_for(entry.pk, view)})

    @classmethod
    def rebuild(cls, subjects: Iterable[str]) -> dict[str, Durable]:
        return {subject: cls.of_for(entry, View.STAFF) for subject, entry in _entries(subjects).items()}

    @classmethod
    def rebuild_for(cls, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Durable]:
        """Rebuild by what each may see now: who has lost the view, or part of it, gets no more of it.

        Staff keep what was theirs while their hospital had the emergency, or was asked to help.
        """
        pairs = set(wanted)
        entries = _entries(subject for _, subject in pairs)
        users = User.objects.in_bulk({user_id for user_id, _ in pairs})
        known = [pair for pair in pairs if pair[0] in users and pair[1] in entries]
        seen = [(users[user_id], entries[subject]) for user_id, subject in known]
        published = (View.of_subject(subject) for _, subject in known)
        views = views_of_entries((*row, view) for row, view in zip(seen, published, strict=True))
        made: dict[tuple[str, View], Durable] = {}
        rebuilt: dict[tuple[str, str], Durable] = {}
        for pair, (user, entry), view in zip(known, seen, views, strict=True):
            if (shown := cls.shown_to(user, entry, view)) is not None:
                key = (entry.pk, shown)
                rebuilt[pair] = made[key] = made.get(key) or cls.of_for(entry, shown)
        return rebuilt


def _entries(subjects: Iterable[str]) -> dict[str, Entry]:
    """subject → its entry, with the emergency."""
    wanted = {subject: subject.partition("~")[0] for subject in subjects}
    found = Entry.objects.select_related("emergency").in_bulk(set(wanted.values()))
    return {subject: found[entry_id] for subject, entry_id in wanted.items() if entry_id in found}


def subject_for(entry_id: str, view: View) -> str:
    """Return the subject of an event for who has this view."""
    return f"{entry_id}{view.value}"


def for_patient(data: Any) -> Any:
    """Return the data of an event for the patient: no other emergencies, and not the staff who declined."""
    if isinstance(data, EmergencyRequest):
        return data.for_patient()
    update = {"emergency": data.emergency.for_patient()} if hasattr(data, "emergency") else {}
    if isinstance(data, Response):
        update |= data.without_decliner()
    return data.model_copy(update=update)


class CreatedEmergency(EmergencyRequest):
    """The emergency, and what the caller may expect; null for one that was stored before HPlus kept it."""

    alerted_count: int | None = None
    reachable_count: int | None = None
    on_diversion: bool | None = None
    diversion_reason: str | None = None


class EmergencyCreated(EntryEvent):
    """Your call for help is stored under this `emergencyId`, and the hospital's staff are alerted.

    `alertedCount` were; `reachableCount` of them have a connection, or a phone that a push can wake. Where
    that is 0 you get the notice `emergencyUnanswered` with the number to call instead.
    """

    type = "emergencyCreated"
    emergency_id: str
    data: CreatedEmergency

    @classmethod
    def of(cls, entry: Entry) -> Self:
        data = CreatedEmergency(**entry.data["emergency"], **entry.data.get("reach", {}))
        return cls(entry_id=entry.pk, emergency_id=entry.emergency_id, data=data)

    def topic(self) -> str:
        return self.emergency_id


class AlertedEmergency(EmergencyRequest):
    """The emergency; with `mutualAid` one of another hospital, where nobody has accepted it."""

    mutual_aid: Literal[True] | None = Field(default=None, exclude_if=lambda is_asked: is_asked is None)


class EmergencyAlert(EntryEvent):
    """An emergency needs somebody, and you may take it: answer with `emergencyResponse`.

    With `mutualAid: true` another hospital asks for help; who accepts takes it over for the own one. The
    others who were asked hear who has it, or that it is over, and then nothing more.
    """

    type = "emergencyAlert"
    flattened = True
    overtakes = True
    data: AlertedEmergency

    @classmethod
    def shown_to(cls, user: User, entry: Entry, view: View | None) -> View | None:
        """Staff alone may accept: a caller or patient is shown none."""
        return view if view is View.STAFF else None

    @classmethod
    def of(cls, entry: Entry) -> Self:
        is_asked: Literal[True] | None = True if entry.data.get("mutualAid") else None
        return cls(entry_id=entry.pk, data=AlertedEmergency(**entry.data["emergency"], mutual_aid=is_asked))

    def topic(self) -> str:
        return self.data.emergency_id

    def author(self) -> str:
        return self.data.requested_by

    def push_category(self) -> str:
        return "emergency"


class Response(Shape):
    """What a member of the staff answered, and the emergency after that."""

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

    def without_decliner(self) -> dict[str, Any]:
        """Return what is hidden of a decline: the staff who were called are for the staff alone."""
        if self.action == "accept":
            return {}
        nobody = dict.fromkeys(("responder_id", "responder_name", "responder_role"), "")
        return {**nobody, "response_notes": None, "rejection_reason": None}

    def for_caller(self, original: dict[str, Any]) -> Self:
        hidden = {"response_notes": None, "rejection_reason": None, **self.without_decliner()}
        return self.model_copy(update={**hidden, "emergency": self.emergency.for_caller(original)})


class EmergencyResponse(EntryEvent):
    """Somebody has accepted the emergency, or declined it.

    The requester gets a decline only when everybody who is online and was to be alerted has declined.
    """

    type = "emergencyResponse"
    data: Response

    def topic(self) -> str:
        return self.data.emergency_id

    def author(self) -> str:
        return self.data.responder_id

    def push_category(self) -> str:
        return "emergency"


class StatusChange(Shape):
    """What was reported, by whom, and the emergency after that."""

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

    def for_caller(self, original: dict[str, Any]) -> Self:
        hidden = {"notes": None, "vitals": None, "completion_details": None}
        return self.model_copy(update={**hidden, "emergency": self.emergency.for_caller(original)})


class EmergencyStatusUpdate(EntryEvent):
    """The status or the phase of an emergency has changed, or notes or vital signs were added.

    `data` has the status and the phase as they are now, and who reported them.
    """

    type = "emergencyStatusUpdate"
    data: StatusChange

    def topic(self) -> str:
        return self.data.emergency_id

    def author(self) -> str:
        return self.data.updated_by


class EscalationAcked(Shape):
    emergency_id: str
    by: str
    at: datetime
    until: datetime
    note: str | None


class EmergencyEscalationAcked(EscalationAcked, EntryEvent):
    """A dispatcher has seen the emergency: nobody is asked about it before `until`."""

    type = "emergencyEscalationAcked"

    @classmethod
    def shown_to(cls, user: User, entry: Entry, view: View | None) -> View | None:
        """Show it to the staff concerned and to all dispatchers, also to one who reads no chart."""
        is_shown = view is View.STAFF or is_dispatcher(user, entry.emergency.hospital_id)
        return View.STAFF if is_shown else None

    @classmethod
    def of(cls, entry: Entry) -> Self:
        return cls(entry_id=entry.pk, **EscalationAcked.model_validate(entry.data).model_dump())

    def topic(self) -> str:
        return self.emergency_id

    def author(self) -> str:
        return self.by


class Amended(Shape):
    emergency_id: str
    changed: dict[str, dict[str, Any]]
    by: str
    reason: str | None
    emergency: EmergencyRequest

    def for_caller(self, original: dict[str, Any]) -> Self:
        """With the own changes, and those of where and how urgently somebody comes."""
        is_own = self.by == self.emergency.requested_by
        told = {
            name: change
            for name, change in self.changed.items()
            if is_own or name in ("location", "priority")
        }
        reason = self.reason if is_own else None
        return self.model_copy(
            update={"changed": told, "reason": reason, "emergency": self.emergency.for_caller(original)}
        )


class EmergencyAmended(EntryEvent):
    """Something known of the emergency was corrected: each changed field with the value before and now."""

    type = "emergencyAmended"
    data: Amended

    def topic(self) -> str:
        return self.data.emergency_id

    def author(self) -> str:
        return self.data.by

    def push_category(self) -> str:
        return "emergency"


class HospitalStatus(Event):
    """A hospital has gone on diversion, or has ended it; sent to its staff and to who joined it."""

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
    """A member of the staff, with distance in metres, seconds by road and seconds since the position."""

    user_id: str
    name: str
    distance_meters: float
    eta_seconds: int | None
    fix_age: float


class NearestResponders(Event):
    """Answers `nearestResponders`: staff with a fresh position, the nearest first."""

    type = "nearestResponders"
    emergency_id: str
    data: list[Responder]


class BoardWatched(Event):
    """Answers `watchBoard`: from now on this connection gets `boardChanged` of this hospital."""

    type = "boardWatched"
    hospital_id: str


class BoardChanged(Event):
    """Something about this emergency has changed on the hospital's board: read the board again over HTTP."""

    type = "boardChanged"
    hospital_id: str
    emergency_id: str

    def subject(self) -> str:
        return self.emergency_id
