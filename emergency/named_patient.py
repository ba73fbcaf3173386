"""The person whose userId a caller names as the patient: asked, and opened to the staff only by a yes."""

from __future__ import annotations

from django.utils import timezone

from emergency import audience, timeline
from emergency.current_state import status_change
from emergency.messages import ConfirmPatient
from emergency.models import Emergency, EntryKind
from emergency.sharing import share_locations, share_presence
from hplus import errors
from hplus.accounts.models import Role, User
from hplus.notifications.actions import notify
from hplus.protocol.wire import rfc3339
from hplus.realtime.actions import Result, action


def ask_the_patient(emergency: Emergency) -> None:
    """Ask the person named, who may not be the patient: the notice has only the hospital and the time."""
    named = User.objects.filter(pk=emergency.patient_id, role=Role.PATIENT)
    if emergency.is_callers_own or not named.exists():
        return
    hospital = emergency.hospital
    notify(
        [emergency.patient_id],
        category="areYouThePatient",
        title="Are you the patient?",
        body=f"Somebody has called {hospital.name} for help and named you as the patient.",
        priority="urgent",
        data={
            "emergencyId": emergency.pk,
            "hospitalId": hospital.pk,
            "hospitalName": hospital.name,
            "requestedAt": rfc3339(emergency.requested_at),
        },
    )


@action
def confirm_patient(user: User, request: ConfirmPatient) -> Result:
    """Note whether the person named is the patient; a yes opens position and presence to the staff.

    The same answer again is acknowledged. Raises EmergencyNotFound (not named in it) or
    InvalidTransition (the other answer was given before).
    """
    emergency, now = _named_in(user, request.emergency_id), timezone.now()
    done = Result(ack_data={"emergencyId": emergency.pk})
    if emergency.patient_confirmed == request.is_me:
        return done
    if emergency.patient_confirmed is not None:
        raise errors.InvalidTransition("You have answered this before.", status=emergency.status)
    emergency.patient_confirmed = request.is_me
    if not request.is_me:
        emergency.warnings = [*emergency.warnings, "patientId"]
    emergency.save_change()
    timeline.add_entry(emergency, EntryKind.CONFIRMED, user, {"isMe": request.is_me}, now)
    if request.is_me and emergency.is_open:
        share_locations(emergency)
        share_presence(emergency, audience.staff_alerted_before(emergency))
    change = status_change(emergency, user, now, emergency.status)
    entry = timeline.add_entry(emergency, EntryKind.STATUS, user, change, now)
    audience.publish_status(entry, emergency=emergency)
    return done


def _named_in(user: User, emergency_id: str) -> Emergency:
    not_found = errors.EmergencyNotFound(field="emergencyId")
    if not user.is_patient:
        raise not_found
    named = Emergency.objects.called_by_others_for(user).select_for_update(of=("self",))
    return named.find(emergency_id, not_found)
