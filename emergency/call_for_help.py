"""The call for help: stored whatever its optional fields contain, then the staff are alerted."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError
from django.utils import timezone

from emergency import audience, timeline
from emergency.bounds import bounded
from emergency.current_state import status_change
from emergency.lenient import as_age, as_object, as_sex, as_text, as_yes_or_no
from emergency.messages import EmergencyCreated, EmergencyStatusUpdate, RequestHelp, subject_for
from emergency.models import Emergency, Entry, EntryKind, RepeatedCall
from emergency.named_patient import ask_the_patient
from emergency.observations import notify_if_worse, observe
from emergency.repeated_call import add_call, emergency_to_add_to
from emergency.sharing import share_locations
from emergency.unanswered import reach_of, tell_requester
from emergency.visibility import View
from hplus import errors
from hplus.accounts.actions import find_hospital
from hplus.accounts.models import User
from hplus.protocol import wire
from hplus.realtime.actions import Result, action
from hplus.realtime.idempotency import Idempotency
from hplus.realtime.publishing.envelopes import Envelope
from hplus.realtime.publishing.mailbox import newest_entries_about
from location.geo import is_nowhere

DUPLICATE_WITHIN = timedelta(minutes=10)
_NOT_CONTENT = {"requestId", "clientMessageId", "timestamp", "type"}


def _content(request: RequestHelp) -> dict[str, Any]:
    """What the phone sent: a field that was unreadable tells one call for help from another, too."""
    sent = request.original
    return {key: sent[key] for key in sorted(sent) if key not in _NOT_CONTENT}


IDEMPOTENCY = Idempotency(Emergency, requester="requested_by", content=_content)
REPEATED = Idempotency(RepeatedCall, requester="requested_by", content=_content)


def request_help(user: User, request: RequestHelp) -> Result:
    """Store a call for help, answer the requester and alert the staff.

    A patient may call any hospital, staff their own. Raises HospitalNotFound, HospitalMismatch or
    IdempotencyConflict.
    """
    _must_be_allowed(user, request.hospital_id)
    if repeated := _repeated(user, request):
        return repeated
    try:
        return _store(user, request)
    except IntegrityError:  # a repetition on another connection at the same moment
        if repeated := _repeated(user, request):
            return repeated
        raise


def _must_be_allowed(user: User, hospital_id: str) -> None:
    if not user.is_patient and user.hospital_id != hospital_id:
        raise errors.HospitalMismatch()
    find_hospital(hospital_id)


def _repeated(user: User, request: RequestHelp) -> Result | None:
    """The first result again, with the events of then, for a request with the same clientMessageId."""
    known = IDEMPOTENCY.first_row(user, request)
    if known is None:
        added = REPEATED.first_row(user, request)
        known = added.emergency if added else None
    if known is None:
        return None
    return Result(events=_created_again(user, known), ack_data={"emergencyId": known.pk}, is_duplicate=True)


def _created_again(user: User, known: Emergency) -> list[Envelope]:
    """The events that answered the call which made this emergency."""
    first = Entry.objects.filter(emergency=known, kind=EntryKind.REQUESTED).values_list("pk", flat=True)
    subjects = [subject for pk in first for subject in (subject_for(pk, view) for view in View)]
    return [
        entry
        for event_type in (EmergencyCreated.type, EmergencyStatusUpdate.type)
        for entry in newest_entries_about(user, event_type, subjects)
    ]


@action
def _store(user: User, request: RequestHelp) -> Result:
    """Make an emergency, or add the call to one of a requester who has made many."""
    now = timezone.now()
    known = emergency_to_add_to(user, request.hospital_id, now)
    if known is None:
        return _make(user, request, now)
    if repeated := _repeated(user, request):  # while this call waited for its turn
        return repeated
    add_call(known, user, request, REPEATED.fingerprint(request), now)
    return Result(
        events=_created_again(user, known),
        replayed=True,  # a client that asks for no `ack` knows by it that the call has come
        ack_data={"emergencyId": known.pk},
        is_merged=True,
    )


def _make(user: User, request: RequestHelp, now: datetime) -> Result:
    emergency = _to_row(user, request)
    vitals = as_object(request.vitals)
    observed = observe(emergency, user, vitals, now) if vitals is not None else None
    alerted = audience.users_to_alert(emergency)
    emergency.requested_at, emergency.alerted_at = now, now if alerted else None
    emergency.escalate_at = emergency.next_escalation_at()
    emergency.save(force_insert=True)
    created = status_change(emergency, user, now, None, vitals=bounded("vitals", emergency.vitals)).as_json()
    reach = reach_of(emergency.hospital, alerted)
    entry = timeline.add_entry(emergency, EntryKind.REQUESTED, user, {**created, "reach": reach}, now)
    if observed and emergency.readings:
        timeline.add_entry(emergency, EntryKind.VITALS, user, observed, now)
    audience.publish_to_requester(EmergencyCreated, entry, emergency)
    audience.publish_to_requester(EmergencyStatusUpdate, entry, emergency)
    if not reach["reachableCount"]:
        tell_requester(emergency)
    audience.alert(emergency, alerted, now)
    notify_if_worse(emergency, observed)
    share_locations(emergency)
    ask_the_patient(emergency)
    return Result(ack_data={"emergencyId": emergency.pk})


def _to_row(user: User, request: RequestHelp) -> Emergency:
    return Emergency(
        hospital_id=request.hospital_id,
        patient_id=request.patient_id,
        patient_name=as_text(request.patient_name),
        patient_phone=as_text(request.patient_phone),
        patient_age=as_age(request.patient_age),
        patient_sex=as_sex(request.patient_sex),
        is_pregnant=as_yes_or_no(request.is_pregnant),
        lat=request.location.lat,
        lng=request.location.lng,
        address=as_text(request.location.address),
        condition=request.condition,
        description=as_text(request.description),
        priority=request.priority,
        requested_by=user,
        requested_by_role=user.role,
        warnings=_unreadable_fields(request),
        original=request.original,
        possible_duplicate_of=_possible_duplicate(request),
        client_message_id=request.client_message_id,
        client_timestamp=request.client_timestamp,
        fingerprint=IDEMPOTENCY.fingerprint(request),
        check_at=None,
        acknowledged_at=None,
    )


def _unreadable_fields(request: RequestHelp) -> list[str]:
    """The client's names of optional fields that were of another type or contained unreadable characters."""
    sent: dict[str, Any] = {
        "patientName": request.patient_name,
        "patientPhone": request.patient_phone,
        "location.address": request.location.address,
        "description": request.description,
    }
    unreadable = [name for name, value in sent.items() if value is not None and not _is_readable(value)]
    if request.vitals is not None and not isinstance(request.vitals, dict):
        unreadable.append("vitals")
    if is_nowhere(request.location.lat, request.location.lng):
        unreadable.append("location")
    if str(request.original.get("priority")).strip().lower() != request.priority:
        unreadable.append("priority")
    converted = {
        "patientAge": (request.patient_age, as_age),
        "patientSex": (request.patient_sex, as_sex),
        "isPregnant": (request.is_pregnant, as_yes_or_no),
    }
    unreadable += [
        name for name, (value, convert) in converted.items() if value is not None and convert(value) is None
    ]
    ids = {"requestId": request.request_id, "clientMessageId": request.client_message_id}
    unreadable += [name for name, value in ids.items() if request.original.get(name) != value]
    return list(dict.fromkeys([*unreadable, *request.unbounded_numbers]))


def _is_readable(value: Any) -> bool:
    return isinstance(value, str) and wire.UNREADABLE not in value


def _possible_duplicate(request: RequestHelp) -> str | None:
    """The latest emergency of the same patient in the hospital within DUPLICATE_WITHIN."""
    recent = Emergency.objects.filter(
        patient_id=request.patient_id,
        hospital=request.hospital_id,
        requested_at__gte=timezone.now() - DUPLICATE_WITHIN,
    )
    return recent.order_by("-requested_at").values_list("pk", flat=True).first()
