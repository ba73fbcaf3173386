"""Emergencies with their timelines and alerts, and the policy of each hospital."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from emergency.news2 import outdated
from emergency.status import (
    ASSIGNED,
    ETIMES,
    OPEN,
    STAMPS,
    UNDERWAY,
    WITH_PATIENT,
    Phase,
    StallCause,
    Status,
    is_before,
    later_phases,
)
from hplus.accounts.models import STAFF_ROLES, Hospital, Role, User
from hplus.protocol.wire import new_id, rfc3339
from hplus.realtime.idempotency import IdempotentRow, one_row_per_key
from hplus.tenancy import NO_ROW, TenancyQuerySet

# After the end, who called for somebody else hears no more of it.
CALLER_SEES_FOR = timedelta(hours=24)
NEWS2_FROM_AGE = 16
# An older reading does not count any more.
READINGS_COUNT_FOR = timedelta(minutes=60)


class Priority(models.TextChoices):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


# The invariant: every open emergency has a next deadline (`next_deadline`), at which HPlus does something
# unless somebody whose turn it is has acted before (emergency/attention.py).
HAS_NEXT_DEADLINE = ~Q(status__in=OPEN) | Q(escalate_at__isnull=False) | Q(check_at__isnull=False)


class EmergencyQuerySet(TenancyQuerySet["Emergency"]):
    def visibility(self, user: User) -> Q:
        """Match those the user called for or is the confirmed patient of; for staff also their hospital's.

        A caller who is not the patient sees nothing from 24 hours after the end.
        """
        earliest = timezone.now() - CALLER_SEES_FOR
        is_recent = Q(completed_at=None, cancelled_at=None)
        is_recent |= Q(completed_at__gt=earliest) | Q(cancelled_at__gt=earliest)
        own = Q(requested_by=user) & (Q(patient_id=user.pk) | is_recent)
        own |= Q(patient_id=user.pk, patient_confirmed=True)
        if user.is_patient:
            return own
        asked = Emergency.objects.asked_of(user.hospital_id).values("pk")
        return Q(hospital=user.hospital_id) | Q(pk__in=asked) | own

    def readable_by(self, user: User) -> Self:
        """Return those whose chart the user may read: the patient; of the staff the roles of the policy,
        and who was alerted to it or is assigned; a superuser all."""
        return self if user.is_superuser else self.filter(_readable_by(user))

    def listed_for(self, user: User) -> Self:
        """Return those the user may read or has called for, and those of others to help with."""
        visible = self.visible_to(user)
        if user.is_superuser:
            return visible
        return visible.filter(Q(requested_by=user) | _readable_by(user) | _alerted_elsewhere(user))

    def called_by_others_for(self, user: User) -> Self:
        """Return those that somebody else called for this person, asked or answered."""
        return self.filter(patient_id=user.pk).exclude(requested_by=user)

    def open(self) -> Self:
        return self.filter(status__in=OPEN)

    def pending(self) -> Self:
        return self.filter(status=Status.PENDING)

    def asked_of(self, hospital_id: str | None) -> Self:
        """Match the pending ones for which this hospital was asked to help."""
        asked = AidRequest.objects.filter(hospital=hospital_id, emergency=models.OuterRef("pk"))
        return self.pending().filter(models.Exists(asked))

    def waiting_for(self, user: User) -> Self:
        """Match the pending ones this member of the staff may accept, also those the hospital helps with."""
        asked = self.asked_of(user.hospital_id).values("pk")
        return self.pending().filter(Q(hospital=user.hospital_id) | Q(pk__in=asked))

    def unattended(self) -> Self:
        """Match open ones for which nothing is due: there must be none, and a constraint refuses them."""
        return self.exclude(HAS_NEXT_DEADLINE)

    def overdue(self, by: datetime) -> Self:
        """Match those whose next deadline was before that time."""
        return self.filter(Q(escalate_at__lt=by) | Q(escalate_at=None, check_at__lt=by))


def _readable_by(user: User) -> Q:
    own = Q(patient_id=user.pk) & (Q(requested_by=user) | Q(patient_confirmed=True))
    if user.is_patient or user.hospital_id is None:
        return own
    here = Q(hospital=user.hospital_id)
    if user.role not in HospitalPolicy.of(user.hospital_id).chart_roles:
        here &= Q(assigned_to=user) | _alerted(user)
    return here | own


def _alerted_elsewhere(user: User) -> Q:
    """Match what the user was alerted to at a hospital that is asked to help."""
    if user.is_patient or user.hospital_id is None:
        return NO_ROW
    asked = Emergency.objects.asked_of(user.hospital_id).values("pk")
    return Q(pk__in=asked) & _alerted(user)


def _alerted(user: User) -> Q:
    return Q(Exists(Alert.objects.filter(emergency=OuterRef("pk"), user=user).exclude(entry=None)))


class Emergency(IdempotentRow):
    """One call for help as it stands now; its entries have what happened before.

    `original` is what the phone sent, unchanged; the other columns are what goes out, in the types of the
    integration guide.
    """

    emergency_id = models.CharField(
        "emergencyId", max_length=36, primary_key=True, default=new_id, editable=False
    )
    hospital = models.ForeignKey(Hospital, on_delete=models.PROTECT, related_name="emergencies")
    # Not necessarily a userId: a bystander may call for a stranger.
    patient_id = models.CharField("patientId", max_length=150, db_index=True)
    patient_name = models.TextField("patientName", null=True, blank=True)  # noqa: DJ001 null on the wire
    patient_phone = models.TextField("patientPhone", null=True, blank=True)  # noqa: DJ001 null on the wire
    lat = models.FloatField()
    lng = models.FloatField()
    address = models.TextField(null=True, blank=True)  # noqa: DJ001 null on the wire
    # Whether the person whose userId `patient_id` is says so; null where nobody asked or answered.
    patient_confirmed = models.BooleanField(null=True, blank=True)
    patient_age = models.SmallIntegerField("patientAge, in years", null=True, blank=True)
    patient_sex = models.CharField("patientSex", max_length=20, null=True, blank=True)  # noqa: DJ001 null on the wire
    is_pregnant = models.BooleanField("isPregnant", null=True, blank=True)
    caller_name = models.TextField("callerName", null=True, blank=True)  # noqa: DJ001 null on the wire
    caller_relation = models.TextField("callerRelation", null=True, blank=True)  # noqa: DJ001 null on the wire
    callback_phone = models.TextField("callbackPhone", null=True, blank=True)  # noqa: DJ001 null on the wire
    access_notes = models.TextField("accessNotes", null=True, blank=True)  # noqa: DJ001 null on the wire
    condition = models.TextField()
    description = models.TextField(null=True, blank=True)  # noqa: DJ001 null on the wire
    priority = models.CharField(max_length=10, choices=Priority)
    status = models.CharField(max_length=12, choices=Status, default=Status.PENDING)
    phase = models.CharField(max_length=20, choices=Phase, null=True, blank=True)  # noqa: DJ001 null on the wire
    requested_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    requested_by_role = models.CharField(max_length=20, choices=Role)
    assigned_to = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    assigned_role = models.CharField(max_length=20, choices=Role, null=True, blank=True)  # noqa: DJ001 null on the wire
    estimated_arrival = models.TextField(null=True, blank=True)  # noqa: DJ001 null on the wire
    # As sent, the latest value of each key; `readings` is what vitals.py understood of them.
    vitals = models.JSONField(null=True, blank=True)
    readings = models.JSONField(default=dict, blank=True)
    news2 = models.JSONField(null=True, blank=True)
    warnings = models.JSONField(default=list, blank=True)
    original = models.JSONField(default=dict, blank=True)
    possible_duplicate_of = models.CharField(max_length=36, null=True, blank=True)  # noqa: DJ001 null on the wire
    client_timestamp = models.CharField(max_length=64, null=True, blank=True)  # noqa: DJ001 as sent, or nothing
    version = models.PositiveIntegerField(default=1)
    escalation_level = models.PositiveSmallIntegerField(default=0)
    # When it escalates unless somebody accepts; the server that locks the row first does it.
    escalate_at = models.DateTimeField(null=True, blank=True)
    # When it is checked whether the assignee still acts. The database's default: what a server of the version
    # before assigns is checked at once.
    check_at = models.DateTimeField(null=True, blank=True, db_default=Now())
    # When the assignee accepted; null while one who was assigned by another has not.
    acknowledged_at = models.DateTimeField(null=True, blank=True, db_default=Now())
    stalled_cause = models.CharField(max_length=12, choices=StallCause, blank=True, db_default="")
    # How often the dispatchers and the assignee were asked because of that.
    reminders = models.SmallIntegerField(default=0, db_default=0)

    requested_at = models.DateTimeField()
    alerted_at = models.DateTimeField(null=True, blank=True)
    accepted_at = models.DateTimeField(null=True, blank=True)
    en_route_at = models.DateTimeField(null=True, blank=True)
    on_scene_at = models.DateTimeField(null=True, blank=True)
    at_patient_at = models.DateTimeField(null=True, blank=True)
    transporting_at = models.DateTimeField(null=True, blank=True)
    at_destination_at = models.DateTimeField(null=True, blank=True)
    transfer_of_care_at = models.DateTimeField(null=True, blank=True)
    in_service_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    cancelled_at = models.DateTimeField(null=True, blank=True)

    objects = EmergencyQuerySet.as_manager()

    class Meta:
        ordering = ["-requested_at"]
        verbose_name_plural = "emergencies"
        indexes = [
            models.Index(fields=["hospital", "-requested_at"], name="emergency_of_hospital"),
            # Every new connection reads the open ones: few among all rows.
            models.Index(fields=["-requested_at"], name="emergency_open", condition=Q(status__in=OPEN)),
            models.Index(
                fields=["escalate_at"], name="emergency_due", condition=Q(escalate_at__isnull=False)
            ),
            models.Index(fields=["check_at"], name="emergency_to_check", condition=Q(status__in=OPEN)),
        ]
        constraints = [
            models.CheckConstraint(name="open_has_a_next_deadline", condition=HAS_NEXT_DEADLINE),
            one_row_per_key("requested_by", "one_emergency_however_often_sent"),
            models.CheckConstraint(
                name="assigned_when_accepted",
                condition=Q(status__in=ASSIGNED, assigned_to__isnull=False)
                | Q(status=Status.PENDING, assigned_to=None, phase=None)
                | Q(status=Status.CANCELLED),
            ),
            models.CheckConstraint(
                name="accepted_has_no_phase_yet", condition=~Q(status=Status.ACCEPTED) | Q(phase=None)
            ),
            models.CheckConstraint(
                name="completed_has_its_time",
                condition=Q(status=Status.COMPLETED, completed_at__isnull=False)
                | (~Q(status=Status.COMPLETED) & Q(completed_at=None)),
            ),
            models.CheckConstraint(
                name="cancelled_has_its_time",
                condition=Q(status=Status.CANCELLED, cancelled_at__isnull=False)
                | (~Q(status=Status.CANCELLED) & Q(cancelled_at=None)),
            ),
            models.CheckConstraint(
                name="only_pending_escalates", condition=Q(status=Status.PENDING) | Q(escalate_at=None)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.priority} {self.status}, {self.requested_at:%Y-%m-%d %H:%M}"

    @property
    def is_callers_own(self) -> bool:
        """Whether the caller is the patient."""
        return self.requested_by_id == self.patient_id

    def is_patient(self, user: User) -> bool:
        """Whether this user called as the patient, or was named as the patient and confirmed."""
        return user.pk == self.patient_id and (self.is_callers_own or self.patient_confirmed is True)

    def has_readable_chart(self, user: User) -> bool:
        """Whether this user may read vitals, notes and timeline; see `readable_by`."""
        if user.is_superuser or self.is_patient(user):
            return True
        readable = Emergency.objects.filter(pk=self.pk).readable_by(user)
        return user.works_at(self.hospital_id) and readable.exists()

    def is_hidden_from_caller(self, now: datetime) -> bool:
        ended_at = self.completed_at or self.cancelled_at
        return not self.is_callers_own and ended_at is not None and now - ended_at >= CALLER_SEES_FOR

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def is_underway(self) -> bool:
        """Whether somebody is assigned and it is not over."""
        return self.status in UNDERWAY

    @property
    def next_deadline(self) -> datetime | None:
        """Return when HPlus does something unless somebody acts before; never None while it is open."""
        return self.escalate_at or self.check_at if self.is_open else None

    @property
    def is_with_patient(self) -> bool:
        """Whether the crew has reached the patient, on the scene or later."""
        return any(getattr(self, STAMPS[phase]) is not None for phase in WITH_PATIENT)

    @property
    def times(self) -> dict[str, str]:
        """The times that are set, by NEMSIS eTimes number; those of phases also by the name of the phase."""
        stamped = ((key, getattr(self, column)) for key, column in (ETIMES | STAMPS).items())
        return {key: rfc3339(at) for key, at in stamped if at is not None}

    @property
    def news2_not_applicable(self) -> str | None:
        """Why there is no score for this patient: NEWS2 is made for people from 16 who are not pregnant."""
        if self.patient_age is not None and self.patient_age < NEWS2_FROM_AGE:
            return "age"
        return "pregnancy" if self.is_pregnant else None

    def current_news2(self, now: datetime) -> dict[str, Any] | None:
        """Return the score; in an open emergency, one of observations over 60 minutes old is incomplete."""
        if not self.news2 or not self.is_open:
            return self.news2
        taken_at = parse_datetime(self.news2.get("observedAt", ""))
        is_current = taken_at is not None and now - taken_at <= READINGS_COUNT_FOR
        return self.news2 if is_current else outdated(self.news2)

    def stamp(self, phase: str, now: datetime) -> None:
        """Set the phase, and its time if it is reached for the first time.

        A correction to an earlier one clears the times of those after it; the timeline keeps them.
        """
        if is_before(phase, self.phase):
            for later in later_phases(phase):
                setattr(self, STAMPS[later], None)
        self.phase = phase
        if getattr(self, STAMPS[phase]) is None:
            setattr(self, STAMPS[phase], now)

    def assign(self, user: User, now: datetime, *, by: User) -> None:
        """Make the user the assignee, who has to acknowledge what another assigned.

        A crew with the patient hands over phase and times with the patient; else the next one begins anew.
        """
        if self.is_with_patient:
            self._clear_promises()
        else:
            self._clear_assignment()
            self.status = Status.ACCEPTED
        self.assigned_to, self.assigned_role = user, user.role
        self.accepted_at, self.escalate_at = now, None
        self.acknowledged_at = now if by.pk == user.pk else None
        self.begin_checks(now)

    def acknowledge(self, now: datetime) -> None:
        """Note a sign of the assignee: what had stalled goes on."""
        self.acknowledged_at = self.acknowledged_at or now
        self.begin_checks(now)

    def begin_checks(self, now: datetime) -> None:
        """Check the assignee from now on, the first time when the shortest limit is over."""
        self.stalled_cause, self.reminders = "", 0
        limits = HospitalPolicy.of(self.hospital_id).stall_limits()
        self.check_at = now + min(limits.values())

    def reset_to_pending(self, escalate_at: datetime) -> None:
        """Make it pending again, without an assignee."""
        self._clear_assignment()
        self.status, self.assigned_to, self.assigned_role = Status.PENDING, None, None
        self.accepted_at, self.escalation_level, self.escalate_at = None, 0, escalate_at
        self.check_at = None

    def _clear_assignment(self) -> None:
        """Clear phase, estimate and times for the next unit; the timeline keeps those of the last one."""
        self._clear_promises()
        self.phase = None
        for column in STAMPS.values():
            setattr(self, column, None)

    def _clear_promises(self) -> None:
        """Clear what only the last assignee has said or was asked."""
        self.estimated_arrival = self.acknowledged_at = None
        self.stalled_cause, self.reminders = "", 0

    def close(self, status: str, now: datetime) -> None:
        """Set a final status and its time."""
        self.status, self.escalate_at, self.check_at = status, None, None
        self.stalled_cause, self.reminders = "", 0
        setattr(self, "completed_at" if status == Status.COMPLETED else "cancelled_at", now)

    def next_escalation_at(self) -> datetime:
        """When it escalates if nobody accepts it from now on."""
        return timezone.now() + HospitalPolicy.of(self.hospital_id).escalation_delay(self.priority)

    def save_change(self) -> None:
        """Save the row, which the action has locked, as its next version."""
        self.version += 1
        self.save()


class EntryKind(models.TextChoices):
    REQUESTED = "requested"
    ALERTED = "alerted"
    RESPONDED = "responded"
    STATUS = "status"
    VITALS = "vitals"
    ESCALATED = "escalated"
    REASSIGNED = "reassigned"
    TRANSFERRED = "transferred"
    CONFIRMED = "confirmed"
    AMENDED = "amended"
    STALLED = "stalled"
    RELEASED = "released"
    ACKNOWLEDGED = "acknowledged"


# Entries of one action have the same time; this is their order, the cause before its effect.
ORDER_IN_ONE_ACTION = (
    EntryKind.REQUESTED,
    EntryKind.VITALS,
    EntryKind.ESCALATED,
    EntryKind.STALLED,
    EntryKind.ACKNOWLEDGED,
    EntryKind.RELEASED,
    EntryKind.RESPONDED,
    EntryKind.STATUS,
    EntryKind.REASSIGNED,
    EntryKind.TRANSFERRED,
    EntryKind.CONFIRMED,
    EntryKind.AMENDED,
    EntryKind.ALERTED,
)


class Entry(models.Model):
    """An entry of the timeline: what happened, by whom, and when by the server's clock. Never changed.

    Events are rebuilt from it, so `data` is what the event contained.
    """

    entry_id = models.CharField(max_length=36, primary_key=True, default=new_id, editable=False)
    emergency = models.ForeignKey(Emergency, on_delete=models.PROTECT, related_name="entries", db_index=False)
    kind = models.CharField(max_length=12, choices=EntryKind)
    at = models.DateTimeField()
    by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    by_role = models.CharField(max_length=20, choices=Role, blank=True)
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ["at", "entry_id"]
        verbose_name_plural = "entries"
        indexes = [models.Index(fields=["emergency", "at"], name="entry_in_timeline")]

    def __str__(self) -> str:
        return f"{self.kind} {self.at:%H:%M:%S}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise ValidationError("An entry can't be changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise ValidationError("An entry can't be deleted.")

    @property
    def sort_key(self) -> tuple[datetime, int]:
        """The place in the timeline."""
        return self.at, ORDER_IN_ONE_ACTION.index(EntryKind(self.kind))


class Reply(models.TextChoices):
    NONE = "", "none yet"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


class AlertQuerySet(models.QuerySet["Alert"]):
    def user_ids(self) -> list[str]:
        return list(self.values_list("user_id", flat=True))


class Alert(models.Model):
    """One user alerted to one emergency, and the reply."""

    emergency = models.ForeignKey(Emergency, on_delete=models.CASCADE, related_name="alerts", db_index=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    # The entry of the last alert; null for a user who replied without having been alerted.
    entry = models.ForeignKey(Entry, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    reply = models.CharField(max_length=10, choices=Reply, default=Reply.NONE, blank=True)
    replied_at = models.DateTimeField(null=True, blank=True)

    objects = AlertQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["emergency", "user"], name="called_once")]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.reply or 'no answer yet'}"


class RepeatedCall(IdempotentRow):
    """A call for help that was added to an open emergency of the same requester; `original` as sent."""

    emergency = models.ForeignKey(
        Emergency, on_delete=models.PROTECT, related_name="repeated_calls", db_index=False
    )
    requested_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+", db_index=False)
    at = models.DateTimeField()
    original = models.JSONField(default=dict)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["emergency", "id"], name="repeated_call_of")]
        constraints = [one_row_per_key("requested_by", "one_repeated_call_however_often_sent")]

    def __str__(self) -> str:
        return f"{self.requested_by_id}, {self.at:%Y-%m-%d %H:%M:%S}"


class AidRequest(models.Model):
    """Another hospital that was asked to help with an emergency nobody has accepted."""

    emergency = models.ForeignKey(Emergency, on_delete=models.CASCADE, related_name="+", db_index=False)
    hospital = models.ForeignKey(Hospital, on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["emergency", "hospital"], name="aid_asked_once")]

    def __str__(self) -> str:
        return f"{self.hospital_id} asked, {self.at:%Y-%m-%d %H:%M}"


class HospitalPartQuerySet(TenancyQuerySet["HospitalPart"]):
    public_id = "emergency_id"

    def visibility(self, user: User) -> Q:
        """Match those of the user's hospital, for its staff."""
        return NO_ROW if user.is_patient else Q(hospital=user.hospital_id)

    def readable_by(self, user: User) -> Self:
        """Return those the user may read: the roles of the policy; a superuser all."""
        visible = self.visible_to(user)
        if user.is_superuser:
            return visible
        is_reader = bool(user.hospital_id) and user.role in HospitalPolicy.of(user.hospital_id).chart_roles
        return visible if is_reader else visible.none()


class HospitalPart(models.Model):
    """The part of an emergency that a hospital keeps which no longer has it: all up to that time."""

    emergency = models.ForeignKey(Emergency, on_delete=models.PROTECT, related_name="+", db_index=False)
    hospital = models.ForeignKey(Hospital, on_delete=models.PROTECT, related_name="+")
    until = models.DateTimeField()
    last_entry = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="+", db_index=False)

    objects = HospitalPartQuerySet.as_manager()

    class Meta:
        ordering = ["-until"]
        constraints = [models.UniqueConstraint(fields=["emergency", "hospital"], name="one_part_each")]

    def __str__(self) -> str:
        return f"{self.hospital_id} until {self.until:%Y-%m-%d %H:%M}"


ALERT_ROLES = (Role.PARAMEDIC, Role.DOCTOR, Role.NURSE, Role.ADMIN, Role.RECEPTIONIST)


def default_alert_roles() -> list[str]:
    return [str(role) for role in ALERT_ROLES]


def default_chart_roles() -> list[str]:
    return [str(role) for role in (Role.DOCTOR, Role.NURSE, Role.PARAMEDIC, Role.ADMIN)]


def default_accept_roles() -> list[str]:
    return [str(role) for role in (Role.PARAMEDIC, Role.DOCTOR, Role.NURSE, Role.ADMIN)]


def default_targets() -> dict[str, int]:
    """Return seconds from the call to each step; nine in ten emergencies should keep them."""
    return {"alert": 5, "accept": 60, "scene": 480}


# Seconds until each is overdue: acknowledging an assignment by another, leaving after the acceptance, an
# assignee without connection or position, and the caller's objection to a cancellation by others.
LIMITS = {"acknowledge": 60, "turnout": 120, "unreachable": 60, "object": 60}
EMERGENCY_NUMBER = "112"  # of the European Union and by GSM in most networks


class HospitalPolicyQuerySet(TenancyQuerySet["HospitalPolicy"]):
    def visibility(self, user: User) -> Q:
        """Match, for an admin, that of the hospital."""
        return Q(hospital=user.hospital_id) if user.is_hospital_admin else NO_ROW


class HospitalPolicy(models.Model):
    """Who is alerted, accepts and reads charts at a hospital, its limits and its targets.

    Without a row the defaults apply.
    """

    hospital = models.OneToOneField(
        Hospital, on_delete=models.CASCADE, primary_key=True, related_name="emergency_policy"
    )
    alert_roles = models.JSONField(default=default_alert_roles, help_text="the roles that are alerted first")
    accept_roles = models.JSONField(
        default=default_accept_roles,
        db_default=default_accept_roles(),
        help_text="the roles that accept calls without having been alerted",
    )
    chart_roles = models.JSONField(
        default=default_chart_roles,
        db_default=default_chart_roles(),
        help_text="the roles that read charts without having been alerted",
    )
    emergency_number = models.CharField(
        max_length=20,
        default=EMERGENCY_NUMBER,
        db_default=EMERGENCY_NUMBER,
        help_text="for a caller whom nobody answers",
    )
    mutual_aid = models.ManyToManyField(
        Hospital, blank=True, related_name="+", help_text="alerted where nobody here accepts"
    )
    escalation_seconds = models.JSONField(
        null=True, blank=True, help_text="by priority; empty for the installation's own"
    )
    limit_seconds = models.JSONField(
        null=True, blank=True, help_text="until something is overdue, by name; empty for the defaults"
    )
    targets = models.JSONField(
        default=default_targets, help_text="seconds from the call to alert, accept and scene"
    )

    objects = HospitalPolicyQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "hospital policies"

    def __str__(self) -> str:
        return f"Policy of {self.hospital_id}"

    @classmethod
    def of(cls, hospital_id: str) -> HospitalPolicy:
        """Return the hospital's policy, or an unsaved one with the defaults."""
        return cls.objects.filter(pk=hospital_id).first() or cls(hospital_id=hospital_id)

    def clean(self) -> None:
        for field in ("alert_roles", "accept_roles", "chart_roles"):
            _must_be_roles(field, getattr(self, field))
        if self.escalation_seconds is not None:
            _must_be_seconds("escalation_seconds", self.escalation_seconds, Priority.values)
        if self.limit_seconds is not None:
            _must_be_seconds("limit_seconds", self.limit_seconds, LIMITS)
        _must_be_seconds("targets", self.targets, default_targets())

    def escalation_delay(self, priority: str) -> timedelta:
        """Return how long an emergency may wait for an acceptance before it escalates."""
        seconds = {**settings.HPLUS_ESCALATION_SECONDS, **(self.escalation_seconds or {})}
        return timedelta(seconds=seconds[priority])

    def limit(self, name: str) -> timedelta:
        """Return how long until this is overdue; `name` is one of LIMITS."""
        seconds = {**LIMITS, **settings.HPLUS_STALL_SECONDS, **(self.limit_seconds or {})}
        return timedelta(seconds=seconds[name])

    def stall_limits(self) -> dict[str, timedelta]:
        """Return how long an accepted emergency may go without each sign, by cause."""
        return {cause: self.limit(cause) for cause in StallCause.values}


def _must_be_roles(field: str, value: Any) -> None:
    if not isinstance(value, list) or not value or not set(map(str, value)) <= set(STAFF_ROLES):
        raise ValidationError({field: f"A list of some of: {', '.join(STAFF_ROLES)}."})


def _must_be_seconds(field: str, value: Any, names: Iterable[str]) -> None:
    allowed = set(names)
    is_mapping = isinstance(value, dict) and set(value) <= allowed
    if not is_mapping or not all(
        type(seconds) in (int, float) and seconds >= 0 for seconds in value.values()
    ):
        raise ValidationError({field: f"Seconds for some of: {', '.join(sorted(allowed))}."})


def _has_role(roles: str, default: list[str]) -> str:
    """SQL: whether the newcomer's role is one of these of the hospital's policy."""
    policy = f"SELECT policy.{roles} FROM emergency_hospitalpolicy policy"
    return f"""coalesce(({policy} WHERE policy.hospital_id = newcomer.hospital_id),
        '{json.dumps(default)}'::jsonb) @> to_jsonb(newcomer.role)"""


# Connecting users who see an open emergency (`visible_to`): SQL on `newcomer`, see DomainConsumer.
SEES_AN_OPEN_EMERGENCY = f"""
SELECT newcomer.user_id FROM newcomer WHERE EXISTS (
  SELECT FROM emergency_emergency emergency
  WHERE emergency.status IN ({", ".join(f"'{status}'" for status in OPEN)}) AND (
    newcomer.role <> 'patient' AND (emergency.hospital_id = newcomer.hospital_id AND (
      emergency.escalation_level > 0 OR emergency.assigned_to_id = newcomer.user_id
      OR {_has_role("chart_roles", default_chart_roles())}
      OR {_has_role("alert_roles", default_alert_roles())}
      OR EXISTS (
        SELECT FROM emergency_alert alert WHERE alert.emergency_id = emergency.emergency_id
        AND alert.user_id = newcomer.user_id AND alert.entry_id IS NOT NULL)) OR EXISTS (
      SELECT FROM emergency_aidrequest aid
      WHERE aid.emergency_id = emergency.emergency_id AND aid.hospital_id = newcomer.hospital_id))
    OR emergency.requested_by_id = newcomer.user_id OR emergency.patient_id = newcomer.user_id
    OR newcomer.is_superuser))
"""
