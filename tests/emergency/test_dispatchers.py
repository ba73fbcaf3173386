"""Who dispatches is decided in one place, whatever a dispatcher does."""

from __future__ import annotations

from typing import Any

import pytest

from emergency import actions, audience, messages
from emergency.amend import amend
from emergency.call_for_help import request_help
from emergency.escalation_ack import acknowledge_escalation
from emergency.models import Emergency
from hplus import errors
from hplus.accounts.models import User
from tests.emergency import guide_frames

DISPATCH: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "cancel": (actions.update_status, messages.UpdateStatus, {"status": "cancelled", "notes": "a drill"}),
    "amend": (amend, messages.Amend, {"changes": {"priority": "critical"}, "reason": "worse"}),
    "reassign": (actions.reassign, messages.Reassign, {"assigneeId": "doctor_456", "reason": "is near"}),
    "transfer": (actions.transfer, messages.Transfer, {"toHospitalId": "hospital_002", "reason": "burns"}),
    "acknowledge": (acknowledge_escalation, messages.AcknowledgeEscalation, {}),
}


@pytest.mark.parametrize("what", DISPATCH)
def test_what_is_for_dispatchers_asks_the_one_place(
    users: dict[str, User], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    request_help(users["patient_123"], messages.RequestHelp.read(guide_frames.TEST_EMERGENCY))
    emergency, nurse, doctor = Emergency.objects.get(), users["nurse_001"], users["doctor_123"]
    actions.reassign(
        users["admin_001"], messages.Reassign(emergency_id=emergency.pk, assignee_id=doctor.pk, reason="x")
    )
    Emergency.objects.update(stalled_cause="turnout")
    act, request_type, fields = DISPATCH[what]
    request = request_type.read({"emergencyId": emergency.pk, **fields})
    with pytest.raises(errors.Forbidden):
        act(nurse, request)
    monkeypatch.setattr(audience, "is_dispatcher", lambda user, hospital_id: user.pk == nurse.pk)
    assert act(nurse, request).ack_data["emergencyId"] == emergency.pk
