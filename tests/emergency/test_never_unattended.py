"""Whatever happens, in any order: every open emergency has somebody whose turn it is and a next deadline.

A history is a random sequence of what people, phones and the clock do. `make test-faults` plays 10,000.
"""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from emergency import actions, attention, messages
from emergency.amend import amend
from emergency.call_for_help import request_help
from emergency.escalation import DISPATCHERS, escalate_due
from emergency.escalation_ack import acknowledge_escalation
from emergency.models import Emergency, Entry, HospitalPolicy
from emergency.named_patient import confirm_patient
from emergency.response import respond
from emergency.stalled import check_due
from emergency.status import Phase, Status
from hplus import errors
from hplus.accounts.models import User
from hplus.notifications.models import Notification
from hplus.operations.doctor.database import about_emergencies
from hplus.realtime.models import Connection, Presence, ServerProcess
from location.models import Fix
from tests.emergency import guide_frames

HISTORIES = int(os.environ.get("HISTORIES", "15"))
STEPS = 15
LONGEST_PAUSE = timedelta(seconds=16 * 300)
STAFF = ["paramedic_456", "nurse_001", "technician_001", "admin_001", "doctor_002", "admin_002"]
CALLERS = ["patient_123", "test_user", "nurse_001"]
HOSPITALS = ["hospital_001", "hospital_002"]
HERE, FAR = {"lat": 37.7749, "lng": -122.4194}, {"lat": 38.0, "lng": -122.0}
staff, everybody = st.sampled_from(STAFF), st.sampled_from([*STAFF, *CALLERS])
which = st.integers(0, 3)


class Histories(RuleBasedStateMachine):
    """Plays one history in one transaction, on a clock of its own, and takes it back at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._now, self._entries = datetime(2026, 11, 27, 8, tzinfo=UTC), 0
        self._clock = mock.patch.object(timezone, "now", self._time)
        self._clock.start()
        self._transaction = transaction.atomic()
        self._transaction.__enter__()
        self._server = ServerProcess.objects.create(host="history", pid=1, seen_at=self._now)

    def teardown(self) -> None:
        try:
            self._everybody_leaves_and_every_deadline_passes()
        finally:
            transaction.set_rollback(True)
            self._transaction.__exit__(None, None, None)
            self._clock.stop()

    def _time(self) -> datetime:
        return self._now

    def _do(self, act: Any, user_id: str, request: type[Any], /, **fields: Any) -> None:
        """Send a request; what is refused leaves all as it was."""
        with contextlib.suppress(errors.Refusal):
            act(User.objects.get(pk=user_id), request.read(fields))

    def _about(self, number: int) -> str:
        ids = list(Emergency.objects.order_by("emergency_id").values_list("pk", flat=True))
        return ids[number % len(ids)] if ids else "none"

    def _pass(self, seconds: float) -> None:
        """Let time pass for people; servers beat on."""
        self._now += timedelta(seconds=seconds)
        ServerProcess.objects.update(seen_at=self._now)

    def _tick(self) -> None:
        while escalate_due() + check_due():
            self._now += timedelta(milliseconds=500)
        check_due()

    # People

    @rule(user_id=st.sampled_from(CALLERS), priority=st.sampled_from(["low", "critical"]), at=which)
    def request(self, user_id: str, priority: str, at: int) -> None:
        hospital_id = HOSPITALS[at % 2] if user_id != "nurse_001" else HOSPITALS[0]
        fields = guide_frames.create_emergency_request(priority=priority, hospitalId=hospital_id)
        self._do(request_help, user_id, messages.RequestHelp, **fields)

    @rule(user_id=staff, answer=st.sampled_from(["accept", "accept", "reject"]), number=which)
    def respond(self, user_id: str, answer: str, number: int) -> None:
        fields = guide_frames.respond(self._about(number), answer)
        self._do(respond, user_id, messages.Respond, **fields)

    @rule(number=which)
    def release(self, number: int) -> None:
        row = Emergency.objects.filter(pk=self._about(number), assigned_to__isnull=False).first()
        if row:
            self._do(respond, row.assigned_to_id, messages.Respond, emergencyId=row.pk, action="reject")

    @rule(user_id=staff, assignee_id=staff, number=which)
    def reassign(self, user_id: str, assignee_id: str, number: int) -> None:
        fields = {"emergencyId": self._about(number), "assigneeId": assignee_id, "reason": "nearest"}
        self._do(actions.reassign, user_id, messages.Reassign, **fields)

    @rule(user_id=staff, to=st.sampled_from(HOSPITALS), number=which)
    def transfer(self, user_id: str, to: str, number: int) -> None:
        fields = {"emergencyId": self._about(number), "toHospitalId": to, "reason": "burns unit"}
        self._do(actions.transfer, user_id, messages.Transfer, **fields)

    @rule(
        user_id=everybody,
        status=st.sampled_from([Status.IN_PROGRESS, Status.IN_PROGRESS, Status.COMPLETED, Status.CANCELLED]),
        phase=st.sampled_from([None, *Phase.values]),
        by_assignee=st.booleans(),
        number=which,
    )
    def update_status(
        self, user_id: str, status: str, phase: str | None, by_assignee: bool, number: int
    ) -> None:
        emergency_id = self._about(number)
        row = Emergency.objects.filter(pk=emergency_id).first()
        who = row.assigned_to_id if by_assignee and row and row.assigned_to_id else user_id
        fields = {"emergencyId": emergency_id, "status": str(status), "phase": phase}
        self._do(actions.update_status, who, messages.UpdateStatus, **fields)

    @rule(user_id=everybody, to=st.sampled_from(["low", "critical", "there"]), number=which)
    def amend(self, user_id: str, to: str, number: int) -> None:
        changes = {"location": FAR} if to == "there" else {"priority": to}
        fields = {"emergencyId": self._about(number), "changes": changes, "reason": "corrected"}
        self._do(amend, user_id, messages.Amend, **fields)

    @rule(user_id=staff, number=which)
    def acknowledge(self, user_id: str, number: int) -> None:
        fields = {"emergencyId": self._about(number)}
        self._do(acknowledge_escalation, user_id, messages.AcknowledgeEscalation, **fields)

    @rule(is_me=st.booleans(), number=which)
    def confirm_patient(self, is_me: bool, number: int) -> None:
        fields = {"emergencyId": self._about(number), "isMe": is_me}
        self._do(confirm_patient, "patient_123", messages.ConfirmPatient, **fields)

    # Phones

    @rule(user_id=staff)
    def connect(self, user_id: str) -> None:
        Connection.objects.create(server=self._server, user_id=user_id, role="staff")
        Presence.objects.update_or_create(
            pk=user_id, defaults={"status": "available", "last_seen_at": self._now}
        )

    @rule(user_id=staff)
    def fall_silent(self, user_id: str) -> None:
        Connection.objects.filter(user=user_id).delete()

    @rule(user_id=staff, number=which)
    def send_position(self, user_id: str, number: int) -> None:
        Fix.objects.create(
            user_id=user_id, reason_id=self._about(number), at=self._now, received_at=self._now, **HERE
        )

    # The clock

    @rule(seconds=st.sampled_from([1, 20, 61, 130, 400]))
    def time_passes(self, seconds: int) -> None:
        self._pass(seconds)
        self._tick()

    @rule(seconds=st.sampled_from([5, 3600]))
    def restart(self, seconds: int) -> None:
        """No job runs for a while, and all connections are lost."""
        Connection.objects.all().delete()
        self._pass(seconds)
        self._tick()

    # What always holds

    @invariant()
    def open_emergencies_have_a_next_deadline(self) -> None:
        for emergency in Emergency.objects.all():
            deadline = emergency.next_deadline
            assert (deadline is not None) == emergency.is_open, emergency
            if deadline is not None:
                assert -attention.OVERDUE_AFTER <= deadline - self._now <= LONGEST_PAUSE

    @invariant()
    def timeline_only_grows(self) -> None:
        count = Entry.objects.count()
        assert count >= self._entries
        self._entries = count

    def _everybody_leaves_and_every_deadline_passes(self) -> None:
        """Nobody is there any more: what is pending reaches the dispatchers, and its caller hears it."""
        Connection.objects.all().delete()
        for _ in range(6):  # asked, released, all staff, dispatchers, other hospitals
            self._now += LONGEST_PAUSE
            self._tick()
        assert not list(attention.faults(self._now))
        for emergency in Emergency.objects.open():
            assert attention.turn_of(emergency).user_ids
            if emergency.is_underway:
                assert emergency.is_with_patient, f"{emergency} waits for a crew that is not there"
                assert emergency.stalled_cause
            else:
                assert emergency.escalation_level >= DISPATCHERS
                heard = Notification.objects.filter(data__emergencyId=emergency.pk)
                assert heard.filter(
                    category="emergencyUnanswered", recipient=emergency.requested_by_id
                ).exists()


@pytest.mark.faults
@pytest.mark.timeout(6 * 3600)
@pytest.mark.usefixtures("users")
def test_open_emergency_is_attended_in_every_history() -> None:
    policy = HospitalPolicy.objects.create(hospital_id="hospital_001")
    policy.mutual_aid.add("hospital_002")
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=HISTORIES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_database_refuses_an_open_emergency_without_deadline(users: dict[str, User]) -> None:
    request = messages.RequestHelp.read(guide_frames.create_emergency_request())
    request_help(users["patient_123"], request)
    accepted = {"status": "accepted", "assigned_to": "nurse_001", "escalate_at": None}
    for change in ({"escalate_at": None}, accepted):
        with pytest.raises(IntegrityError), transaction.atomic():
            Emergency.objects.update(**change)


def test_doctor_names_emergencies_whose_deadline_has_passed(users: dict[str, User]) -> None:
    request = messages.RequestHelp.read(guide_frames.create_emergency_request())
    request_help(users["patient_123"], request)
    now = timezone.now()
    assert about_emergencies(now).status == "ok"
    Emergency.objects.update(escalate_at=F("escalate_at") - timedelta(hours=1))
    found = about_emergencies(now)
    assert found.status == "wrong"
    assert Emergency.objects.get().pk in found.message
