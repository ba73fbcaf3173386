"""The one way to a chart: who may read an emergency, and the record in the audit of who has.

Socket, HTTP and admin site read emergencies through these functions alone. The reading of each record is
written once for each reader, surface and hour; what a patient reads of the own call is not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from emergency import board, fhir, timeline
from emergency.actions import find_emergency
from emergency.case_report import CaseReport
from emergency.current_state import state_of, states_seen
from emergency.hospital_part import Part, part_of
from emergency.messages import EmergencyRequest
from emergency.models import Emergency, HospitalPart
from emergency.urgency import MAX_PAGE_BYTES, Page, fitting, page_of
from emergency.visibility import view_of, views_of
from hplus import errors
from hplus.accounts.models import Hospital, User
from hplus.audit.actions import RowsRead, record, record_readings
from hplus.audit.models import Verb
from location.actions import read_track
from location.models import Fix

MAX_GREETED = 100
GREETING_BYTES = 40 * 1024  # of the 64 KiB of the frame
READ_ONCE_IN = timedelta(hours=1)
CHART = Emergency._meta.label_lower  # the type of what is read, in the audit

# One emergency


def open_chart(user: User, emergency_id: str, surface: str) -> Emergency:
    """Return an emergency whose chart the user may read, and record that. Raises like `_readable_chart`."""
    emergency = _readable_chart(user, emergency_id)
    note_readings(user, [emergency], surface)
    return emergency


def _readable_chart(user: User, emergency_id: str) -> Emergency:
    """Raises EmergencyNotFound or Forbidden: a caller who is not the patient, a role that reads no charts."""
    emergency = find_emergency(user, emergency_id)
    if not emergency.has_readable_chart(user):
        raise _forbidden()
    return emergency


def _forbidden() -> errors.Forbidden:
    return errors.Forbidden("Only who treats the patient, and the patient, may read this.")


def read_emergency(user: User, emergency_id: str) -> EmergencyRequest:
    """Return the emergency as it stands, in the view the user has of it, and record that.

    A caller who is not the patient gets it without the chart. Raises EmergencyNotFound or Forbidden.
    """
    emergency = find_emergency(user, emergency_id)
    view = view_of(user, emergency)
    if view is None:
        raise _forbidden()
    if view.has_chart:
        note_readings(user, [emergency], "detail")
    return states_seen([emergency], [view])[0]


def read_timeline(user: User, emergency_id: str) -> timeline.Timeline:
    """Return everything that happened. Raises EmergencyNotFound or Forbidden."""
    return timeline.timeline(open_chart(user, emergency_id, "timeline"), user)


def read_positions(user: User, emergency_id: str) -> list[Fix]:
    """Return the positions of those who took part. Raises EmergencyNotFound or Forbidden."""
    return read_track(user, open_chart(user, emergency_id, "track").pk)


def read_bundle(user: User, emergency_id: str) -> dict[str, Any]:
    """Return the HL7 FHIR R4 Bundle. Raises EmergencyNotFound or Forbidden."""
    return fhir.bundle(open_chart(user, emergency_id, "fhir"))


def read_report(user: User, emergency_id: str) -> CaseReport:
    """Return the case report of the admin page. Raises EmergencyNotFound or Forbidden."""
    return CaseReport(open_chart(user, emergency_id, "page"), user)


def export(user: User, emergency_id: str, kind: str) -> dict[str, Any]:
    """Return the whole emergency as `fhir` or as `json` of HPlus; each export is recorded.

    Raises EmergencyNotFound or Forbidden.
    """
    emergency = _readable_chart(user, emergency_id)
    record(user, Verb.EXPORT, emergency, kind=kind)
    if kind == "fhir":
        return fhir.bundle(emergency)
    entries = timeline.timeline(emergency, user).as_json()["entries"]
    return {"emergency": state_of(emergency).as_json(), "timeline": entries}


# The part that a hospital keeps


def read_part(user: User, emergency_id: str) -> Part:
    """Return what the user's hospital keeps of an emergency that another one has now, and record that.

    Raises EmergencyNotFound where there is none, or Forbidden: a role that reads no charts.
    """
    kept = HospitalPart.objects.visible_to(user).select_related("emergency", "last_entry")
    part = kept.find(emergency_id, errors.EmergencyNotFound(field="emergencyId"))
    if not HospitalPart.objects.readable_by(user).filter(pk=part.pk).exists():
        raise errors.Forbidden("Your role reads no charts.")
    note_part(user, part, "part")
    return part_of(part)


def note_part(user: User, part: HospitalPart, surface: str) -> None:
    """Record that this user was shown the part, in the audit of the hospital that keeps it."""
    whose = {part.emergency_id: part.emergency.patient_id}
    record_readings([RowsRead(user, CHART, whose, surface, part.hospital_id)], READ_ONCE_IN)


# Lists


def list_emergencies(
    user: User, statuses: Iterable[str], limit: int, cursor: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    """Return a page of those with these statuses that the user may see, and the next cursor.

    Raises ValidationFailed where the cursor is none of this list.
    """
    page = page_of(Emergency.objects.listed_for(user).filter(status__in=list(statuses)), limit, cursor)
    shown, has_more, read = _shown(user, page)
    note_readings(user, read, "list")
    return shown, shown[-1]["emergencyId"] if has_more else page.next_cursor


def greetings(users: Sequence[User]) -> list[tuple[list[dict[str, Any]], bool]]:
    """Return for each of these users, who connect, the most urgent open ones, and if there are more."""
    pages = [page_of(Emergency.objects.listed_for(user).open(), MAX_GREETED, None) for user in users]
    greeted = [
        (user, page, *_shown(user, page, GREETING_BYTES)) for user, page in zip(users, pages, strict=True)
    ]
    _note(((user, read) for user, *_, read in greeted), "greeting")
    return [(shown, has_more or page.next_cursor is not None) for _, page, shown, has_more, _ in greeted]


def _shown(
    user: User, page: Page, most_bytes: int = MAX_PAGE_BYTES
) -> tuple[list[dict[str, Any]], bool, list[Emergency]]:
    """Return what of the page fits, whether some did not, and those whose chart is shown."""
    views = views_of((user, row) for row in page.rows)
    shown, has_more = fitting(states_seen(page.rows, views), most_bytes)
    rows = zip(page.rows[: len(shown)], views, strict=False)
    return shown, has_more, [row for row, view in rows if view and view.has_chart]


def read_board(user: User, hospital: Hospital) -> board.Board:
    """Return the hospital's live board; where the user may not read the chart, without the patient."""
    opened = list(Emergency.objects.open().filter(hospital=hospital).select_related("assigned_to"))
    shown = board.rows_shown(opened)
    here = Emergency.objects.filter(pk__in=[each.pk for each in shown])
    readable = set(here.readable_by(user).values_list("pk", flat=True))
    note_readings(user, [each for each in shown if each.pk in readable], "board")
    return board.board_of(hospital, shown, readable, open_count=len(opened))


# The audit


def note_readings(user: User, shown: Iterable[Emergency], surface: str) -> None:
    """Record which emergencies this user was shown on this surface."""
    _note([(user, list(shown))], surface)


def _note(shown: Iterable[tuple[User, list[Emergency]]], surface: str) -> None:
    record_readings([each for user, rows in shown for each in _readings(user, rows, surface)], READ_ONCE_IN)


def _readings(user: User, shown: list[Emergency], surface: str) -> list[RowsRead]:
    """One for each hospital, whose admins read its audit."""
    by_hospital: dict[str, dict[str, str]] = defaultdict(dict)
    for each in shown:
        if user.pk not in (each.patient_id, each.requested_by_id) or not user.is_patient:
            by_hospital[each.hospital_id][each.pk] = each.patient_id
    return [RowsRead(user, CHART, whose, surface, hospital_id) for hospital_id, whose in by_hospital.items()]
