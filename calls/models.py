"""Calls and their participants. What the devices exchange (SDP, ICE) is not stored."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import IntEnum
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Prefetch, Q, Value, When
from django.utils import timezone
from django.utils.functional import cached_property

from hplus.accounts.models import Hospital, User
from hplus.protocol.wire import new_id
from hplus.realtime.idempotency import IdempotentRow, one_row_per_key
from hplus.realtime.models import Connection
from hplus.tenancy import TenancyQuerySet, since_move_of


class CallType(models.TextChoices):
    AUDIO = "audio"
    VIDEO = "video"


class CallStatus(models.TextChoices):
    RINGING = "ringing"
    ACTIVE = "active"
    ENDED = "ended"
    MISSED = "missed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    BUSY = "busy"
    FAILED = "failed"


class Urgency(IntEnum):
    """Which of two calls may ring on a line that rings already: the more urgent one, or one of its kind."""

    PATIENT = 0
    STAFF = 1
    EMERGENCY = 2


OPEN = (CallStatus.RINGING, CallStatus.ACTIVE)


class CallQuerySet(TenancyQuerySet["Call"]):
    def of(self, user: User) -> Self:
        """Return the calls this user is or was a participant of, where they are now."""
        return self.filter(_is_participant(user))

    def visibility(self, user: User) -> Q:
        """Match the calls a user may see: the own ones; for an admin also those of the hospital."""
        own = _is_participant(user)
        return own | Q(hospital=user.hospital_id) if user.is_hospital_admin else own

    def with_people(self) -> Self:
        """Load `people` of all calls with one more query."""
        people = Participant.objects.select_related("user", "invited_by").order_by("id")
        return self.prefetch_related(Prefetch("participants", people, to_attr="people"))


def _is_participant(user: User) -> Q:
    mine = Participant.objects.filter(user=user).values("call")
    return Q(pk__in=mine) & since_move_of(user, "started_at")


class Call(models.Model):
    """One call between two or more people. All changes lock its row, which orders them."""

    call_id = models.CharField("callId", max_length=36, primary_key=True, default=new_id, editable=False)
    call_type = models.CharField(max_length=10, choices=CallType)
    initiator = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    hospital = models.ForeignKey(Hospital, on_delete=models.PROTECT, related_name="calls")
    # As the client sent it; this app knows nothing of emergencies.
    emergency_id = models.CharField("emergencyId", max_length=150, blank=True)
    # Whether that was an open emergency of the caller when the call began.
    is_about_emergency = models.BooleanField(default=False, db_default=False)
    status = models.CharField(max_length=10, choices=CallStatus, default=CallStatus.RINGING)
    end_reason = models.CharField(max_length=200, blank=True)
    started_at = models.DateTimeField(default=timezone.now)
    answered_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = CallQuerySet.as_manager()

    class Meta:
        ordering = ["-call_id"]
        constraints = [
            models.CheckConstraint(
                name="an_open_call_has_no_end",
                condition=Q(status__in=OPEN, ended_at=None)
                | (~Q(status__in=OPEN) & Q(ended_at__isnull=False)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.call_type} call by {self.initiator_id}, {self.started_at:%Y-%m-%d %H:%M}"

    @cached_property
    def people(self) -> list[Participant]:
        """All participants, the caller first, then in the order they were called."""
        return list(self.participants.select_related("user", "invited_by").order_by("id"))

    @property
    def urgency(self) -> Urgency:
        """How much it may be in others' way."""
        if self.is_about_emergency:
            return Urgency.EMERGENCY
        return Urgency.PATIENT if self.initiator.is_patient else Urgency.STAFF

    @property
    def is_answered(self) -> bool:
        """Whether anybody ever accepted it."""
        return self.answered_at is not None

    @property
    def duration_seconds(self) -> int | None:
        """Seconds from the first acceptance to the end; None where nobody answered, or before the end."""
        if self.answered_at is None or self.ended_at is None:
            return None
        return int((self.ended_at - self.answered_at).total_seconds())

    @property
    def duration_text(self) -> str:
        """The duration to be read, like `4:07 min`; blank where there is none."""
        seconds = self.duration_seconds
        return "" if seconds is None else f"{seconds // 60}:{seconds % 60:02} min"

    def participant(self, user_id: str) -> Participant | None:
        """Return the participant with this userId."""
        return next((one for one in self.people if one.user_id == user_id), None)

    def present(self) -> list[Participant]:
        """Return the participants who are in the call or ring."""
        return [one for one in self.people if one.is_present]

    def joined(self) -> list[Participant]:
        return [one for one in self.people if one.has_joined]


class ParticipantStatus(models.TextChoices):
    """What a person does in a call."""

    RINGING = "ringing"
    JOINED = "joined"
    LEFT = "left"
    REJECTED = "rejected"
    MISSED = "missed"
    BUSY = "busy"


PRESENT = (ParticipantStatus.RINGING, ParticipantStatus.JOINED)


class ParticipantQuerySet(models.QuerySet["Participant"]):
    def present(self) -> Self:
        return self.filter(status__in=PRESENT)

    def joined(self) -> Self:
        return self.filter(status=ParticipantStatus.JOINED)

    def unanswered_since(self, since: datetime) -> Self:
        """Return those who were called after that time and did not take the call."""
        unanswered = (ParticipantStatus.MISSED, ParticipantStatus.REJECTED)
        return self.filter(status__in=unanswered, call__started_at__gt=since)

    def without_connection(self) -> Self:
        """Return participants of whom no device is connected."""
        return self.filter(~Exists(Connection.objects.filter(user=OuterRef("user"))))

    def with_device(self) -> Self:
        """Annotate `device`: the open connection of the device that takes part; blank where there is none."""
        is_open = Exists(Connection.objects.filter(pk=OuterRef("connection_id")))
        here = When(is_open, status=ParticipantStatus.JOINED, then=F("connection_id"))
        return self.annotate(device=Case(here, default=Value("")))

    def with_connection(self) -> Self:
        return self.filter(Exists(Connection.objects.filter(user=OuterRef("user"))))


class Participant(IdempotentRow):
    """One person in one call, with the time when ringing ends, and when a lost connection ends it.

    The row of the caller is what a repeated `callInitiate` finds.
    """

    call = models.ForeignKey(Call, on_delete=models.CASCADE, related_name="participants", db_index=False)
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    status = models.CharField(max_length=10, choices=ParticipantStatus, default=ParticipantStatus.RINGING)
    # Who called or added this person; null for the caller.
    invited_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    # The connection of the device that joined.
    connection_id = models.CharField(max_length=36, blank=True)
    ring_due_at = models.DateTimeField(null=True, blank=True)
    dropped_due_at = models.DateTimeField(null=True, blank=True)
    joined_at = models.DateTimeField(null=True, blank=True)
    left_at = models.DateTimeField(null=True, blank=True)

    objects = ParticipantQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["ring_due_at"], name="ringing_until", condition=Q(status="ringing")),
        ]
        constraints = [
            models.UniqueConstraint(fields=["call", "user"], name="once_in_a_call"),
            models.UniqueConstraint(
                fields=["user"],
                condition=Q(status=ParticipantStatus.JOINED),
                name="talks_in_one_call_at_a_time",
            ),
            one_row_per_key("user", "called_once_however_often_sent"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id}, {self.status}"

    @property
    def is_present(self) -> bool:
        """Whether the person is in the call or rings."""
        return self.status in PRESENT

    @property
    def is_ringing(self) -> bool:
        return self.status == ParticipantStatus.RINGING

    @property
    def has_joined(self) -> bool:
        """Whether the person is in the call now."""
        return self.status == ParticipantStatus.JOINED

    @property
    def is_connected(self) -> bool:
        """Whether the connection by which the person joined is still open."""
        return Connection.objects.filter(pk=self.connection_id).exists()

    def ring(self, by: User) -> None:
        """Ring for HPLUS_RING_SECONDS, called by this user; does not save."""
        self.status, self.invited_by = ParticipantStatus.RINGING, by
        self.ring_due_at = timezone.now() + timedelta(seconds=settings.HPLUS_RING_SECONDS)

    def join(self, connection_id: str) -> None:
        """Join on this device; does not save."""
        if not self.has_joined:
            self.joined_at, self.left_at = timezone.now(), None
        self.status, self.connection_id = ParticipantStatus.JOINED, connection_id
        self.ring_due_at = self.dropped_due_at = None

    def leave_as(self, status: str) -> None:
        """Leave the call, or never join it, with this status; does not save."""
        if self.has_joined:
            self.left_at = timezone.now()
        self.status, self.ring_due_at, self.dropped_due_at = status, None, None


# Of those who connect, the ones who are in a call or being called: SQL on `newcomer`, see DomainConsumer.
IS_IN_A_CALL = f"""
SELECT newcomer.user_id
FROM newcomer JOIN calls_participant participant ON participant.user_id = newcomer.user_id
WHERE participant.status IN ({", ".join(f"'{part}'" for part in PRESENT)})
"""
