"""A move: a person gets another role or hospital, and all that belongs to the former place is cut."""

from __future__ import annotations

from typing import Any

from django.db.models import Q

from calls import teardown
from emergency.actions import must_be_without_patient
from emergency.messages import Respond
from emergency.models import Emergency
from emergency.response import respond
from hplus import errors
from hplus.accounts.actions import sign_out_everywhere
from hplus.accounts.models import Role, User
from hplus.audit.actions import record
from hplus.audit.models import Verb
from hplus.push.models import PushDevice
from hplus.realtime.actions import action
from hplus.realtime.models import Contact, MailboxEntry
from location import actions as location


def move(actor: User | None, user: User, *, role: str, hospital_id: str | None) -> User:
    """Give this person this role and hospital. Returns the account as it is now.

    What is under way ends first, and the others hear of it: emergencies are pending again, calls are left,
    grants and requests for positions close. Then, in one transaction, the account changes, its sessions and
    push devices end, and its mailbox begins anew. Safe to repeat. Raises ValidationFailed for staff without a
    hospital, InvalidTransition for who is with a patient.
    """
    if role != Role.PATIENT and not hospital_id and not user.is_superuser:
        raise errors.ValidationFailed("Staff belong to a hospital.", field="hospitalId", reason="is missing")
    must_be_free(user)
    end_what_is_under_way(user)
    _change_place(actor, user, role, hospital_id)
    user.refresh_from_db()
    return user


def must_be_free(user: User) -> None:
    """Raises InvalidTransition where the user is with a patient; an admin reassigns that emergency first."""
    for emergency in Emergency.objects.open().filter(assigned_to=user):
        must_be_without_patient(emergency)


def end_what_is_under_way(user: User) -> None:
    """Release this person's emergencies, and end the calls and the grants."""
    assigned = Emergency.objects.open().filter(assigned_to=user, hospital=user.hospital_id)
    for emergency_id in assigned.values_list("pk", flat=True):
        release = Respond(emergency_id=emergency_id, action="reject", rejection_reason="moved")
        respond(user, release)
    teardown.leave_all(user)
    location.close_grants_of(user, but=_called_by(user))


def _called_by(user: User) -> list[str]:
    """The open emergencies for which this person called, which stay theirs."""
    own = Emergency.objects.open().filter(Q(requested_by=user) | Q(patient_id=user.pk))
    return list(own.values_list("pk", flat=True))


@action
def _change_place(actor: User | None, user: User, role: str, hospital_id: str | None) -> None:
    former = {"role": user.role, "hospital": user.hospital_id or ""}
    sign_out_everywhere([user], "moved to another role or hospital")
    PushDevice.objects.filter(user=user).delete()
    contacts = Contact.objects.filter(Q(user=user) | Q(contact=user))
    contacts.exclude(topic__in=_called_by(user)).delete()
    place: dict[str, Any] = {"role": role, "hospital_id": hospital_id}
    if role == Role.PATIENT:
        place["is_staff"] = False
    User.objects.filter(pk=user.pk).update(**place)
    MailboxEntry.objects.filter(user=user).delete()
    new = {"role": role, "hospital": hospital_id or ""}
    record(actor, Verb.MOVE, user, hospital_id=former["hospital"] or hospital_id, former=former, new=new)
