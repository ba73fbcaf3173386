"""Mailboxes of durable events, open connections, server processes, and presence."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol, Self

from django.conf import settings
from django.db import connection, models
from django.db.models import Q
from django.utils import timezone

from hplus.accounts.models import User
from hplus.protocol.wire import new_id
from hplus.tenancy import TenancyQuerySet


class Epoch(models.Model):
    """Identifies the history of this database.

    After a restore from a backup delete the row: cursors from the lost time are then refused.
    """

    epoch = models.CharField(max_length=36, default=new_id)

    def __str__(self) -> str:
        return self.epoch

    @classmethod
    def current(cls) -> str:
        return cls.objects.get_or_create(pk=1)[0].epoch

    @classmethod
    def of(cls, user: User, current: str = "") -> str:
        """The epoch of this person's mailbox, which is another one after each move."""
        epoch = current or cls.current()
        return f"{epoch}.{int(user.moved_at.timestamp() * 1000):x}" if user.moved_at else epoch


class Installation(models.Model):
    """The name of this installation, by which several on one Redis do not hear each other.

    A restored copy has the same one. After its row is deleted, the next server to start makes another.
    """

    installation_id = models.CharField(max_length=36, default=new_id)

    def __str__(self) -> str:
        return self.installation_id

    @classmethod
    def current(cls) -> str:
        return cls.objects.get_or_create(pk=1)[0].installation_id


class MailboxQuerySet(models.QuerySet["Mailbox"]):
    DRAWN_AT_ONCE = 1_000

    def draw(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Draw so many places from each of these mailboxes. Returns userId → its new `last_seq`.

        The mailboxes stay locked until the commit. They are locked in the order of their keys, so that no two
        actions deadlock.
        """
        drawn: dict[str, int] = {}
        wanted = sorted(counts.items())
        for start in range(0, len(wanted), self.DRAWN_AT_ONCE):
            drawn.update(self._draw(wanted[start : start + self.DRAWN_AT_ONCE]))
        return drawn

    def last_seq_of(self, user_id: str) -> int:
        """Return the place of the newest entry, and make the mailbox where there is none yet."""
        return self.get_or_create(pk=user_id)[0].last_seq

    @staticmethod
    def _draw(wanted: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """One statement locks, counts up and makes missing mailboxes."""
        values = ", ".join(["(%s, %s)"] * len(wanted))
        statement = (
            f"INSERT INTO realtime_mailbox (user_id, last_seq) VALUES {values} ON CONFLICT (user_id) "
            "DO UPDATE SET last_seq = realtime_mailbox.last_seq + excluded.last_seq "
            "RETURNING user_id, last_seq"
        )
        with connection.cursor() as cursor:
            cursor.execute(statement, [value for pair in wanted for value in pair])
            return cursor.fetchall()


class Mailbox(models.Model):
    """The last `seq` of one user. Its row lock makes the order of `seq` and of commits the same."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True)
    last_seq = models.BigIntegerField(default=0)

    objects = MailboxQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.user_id}, {self.last_seq} entries"


class MailboxEntryQuerySet(models.QuerySet["MailboxEntry"]):
    def between(self, user_id: str, after: int, up_to: int) -> Self:
        return self.filter(user_id=user_id, seq__gt=after, seq__lte=up_to).order_by("seq")


class MailboxEntry(models.Model):
    """One durable event for one user: its place in the mailbox, its type, and the row it is about.

    The event itself is not stored; it is rebuilt from its row (`Durable.rebuild`). The `seq` of a
    mailbox has no gaps, so a listener detects at once that it missed an entry.
    """

    pk = models.CompositePrimaryKey("user_id", "seq")
    # The database checks the user of the mailbox; once more for each entry costs a sixth of a message.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        db_index=False,
        db_constraint=False,
        related_name="+",
    )
    seq = models.BigIntegerField()
    event_type = models.CharField(max_length=40)
    subject = models.CharField(max_length=40)
    event_id = models.CharField(max_length=36)
    at = models.DateTimeField(default=timezone.now)

    objects = MailboxEntryQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["user", "subject"], name="entry_by_subject"),
            models.Index(fields=["at"], name="entry_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} {self.seq} for {self.user_id}"


class ServerProcess(models.Model):
    """A server process. One not seen for DEAD_AFTER_SECONDS is dead, and so are its connections."""

    server_id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    host = models.CharField(max_length=200)
    pid = models.IntegerField()
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class ConnectionQuerySet(TenancyQuerySet["Connection"]):
    def visibility(self, user: User) -> Q:
        """Match the connections of the users this user may see."""
        return Q(user__in=User.objects.visible_to(user))


class Connection(models.Model):
    """One open connection."""

    connection_id = models.CharField(max_length=36, primary_key=True, default=new_id)
    server = models.ForeignKey(ServerProcess, on_delete=models.CASCADE)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="connections")
    session = models.ForeignKey("accounts.Session", on_delete=models.CASCADE, null=True, blank=True)
    # As they were at the handshake: a connection whose user changed any is closed.
    role = models.CharField(max_length=20)
    hospital = models.CharField(max_length=150, blank=True)
    rights_version = models.IntegerField(default=0, db_default=0)
    device_id = models.CharField("deviceId", max_length=150, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)
    connected_at = models.DateTimeField(default=timezone.now)

    objects = ConnectionQuerySet.as_manager()

    class Meta:
        ordering = ["connected_at"]

    def __str__(self) -> str:
        return f"{self.user_id} since {self.connected_at:%H:%M:%S}"

    @property
    def is_signed_out(self) -> bool:
        """Whether its session ended; without a session, whether its user signed out everywhere since."""
        if self.session is not None:
            return self.session.revoked_at is not None
        signed_out_at = self.user.signed_out_at
        return signed_out_at is not None and signed_out_at > self.connected_at


class PresenceStatus(models.TextChoices):
    AVAILABLE = "available"
    BUSY = "busy"
    AWAY = "away"
    OFFLINE = "offline"


class Presence(models.Model):
    """The status of one user; all connections of a user count as one."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="presence",
    )
    status = models.CharField(max_length=10, choices=PresenceStatus, default=PresenceStatus.OFFLINE)
    last_seen_at = models.DateTimeField(default=timezone.now)
    # Set when the last connection was lost and may return; at this time a job marks the user offline.
    offline_due_at = models.DateTimeField(null=True, blank=True, db_index=True)

    def __str__(self) -> str:
        return f"{self.user_id} is {self.status}"


class Contact(models.Model):
    """Two people who share a room or an open emergency, and so may see each other's presence."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="contacts")
    contact = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    topic = models.CharField(max_length=40, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "contact", "topic"], name="contact_once_a_topic")
        ]

    def __str__(self) -> str:
        return f"{self.user_id} and {self.contact_id}"

    @classmethod
    def share(cls, shared: Iterable[tuple[str, str, str]]) -> None:
        """Record who share which topic: (topic, one userId, the other). Safe to repeat."""
        rows = {(user, contact, topic) for topic, *two in shared for user, contact in (two, two[::-1])}
        cls.objects.bulk_create(
            [cls(user_id=user, contact_id=contact, topic=topic) for user, contact, topic in sorted(rows)],
            ignore_conflicts=True,
        )


class JobFigures(Protocol):
    """What a worker reports of one periodic job; counts are those since the last report."""

    @property
    def values(self) -> tuple[object, ...]: ...


class JobStateQuerySet(models.QuerySet["JobState"]):
    def late(self, now: datetime) -> list[JobState]:
        return [state for state in self.order_by("name") if state.is_late(now)]

    def add(self, reported: Sequence[JobFigures]) -> int:
        """Add what several workers report of their jobs to the rows of these jobs. Returns how many."""
        adapt = connection.ops.adapt_datetimefield_value
        rows = sorted([figures.values for figures in reported], key=lambda values: str(values[0]))
        values = [
            adapt(value) if isinstance(value, datetime) else value
            for row in rows
            for value in (*row, timezone.now())
        ]
        places = ", ".join([f"({', '.join(['%s'] * 12)})"] * len(rows))
        with connection.cursor() as cursor:
            cursor.execute(ADD_TO_JOBS.format(places), values)
        return len(rows)


ADD_TO_JOBS = """
INSERT INTO realtime_jobstate AS job (name, late_after_seconds, running_since, succeeded_at, failed_at, error,
  run_seconds, delay_seconds, row_count, runs, failures, since_at) VALUES {}
ON CONFLICT (name) DO UPDATE SET
  late_after_seconds = excluded.late_after_seconds,
  running_since = excluded.running_since,
  succeeded_at = COALESCE(excluded.succeeded_at, job.succeeded_at),
  failed_at = COALESCE(excluded.failed_at, job.failed_at),
  error = CASE WHEN excluded.failures = 0 THEN job.error ELSE excluded.error END,
  run_seconds = CASE WHEN excluded.runs = 0 THEN job.run_seconds ELSE excluded.run_seconds END,
  delay_seconds = CASE WHEN excluded.runs = 0 THEN job.delay_seconds ELSE excluded.delay_seconds END,
  row_count = job.row_count + excluded.row_count,
  runs = job.runs + excluded.runs,
  failures = job.failures + excluded.failures
"""


class JobState(models.Model):
    """What the workers together have reported of one periodic job."""

    name = models.CharField(max_length=100, primary_key=True)
    late_after_seconds = models.FloatField()
    since_at = models.DateTimeField(default=timezone.now)  # of the first report
    running_since = models.DateTimeField(null=True)  # in the worker that reported last
    succeeded_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=100, blank=True)  # the class of the last failure
    run_seconds = models.FloatField(default=0)  # of the last run that ended
    delay_seconds = models.FloatField(default=0)  # from the time of that run until it began
    row_count = models.BigIntegerField(default=0)
    runs = models.BigIntegerField(default=0)
    failures = models.BigIntegerField(default=0)

    objects = JobStateQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    def silent_seconds(self, now: datetime) -> float:
        """Return the seconds since the last success, or since the first report."""
        return (now - (self.succeeded_at or self.since_at)).total_seconds()

    def is_late(self, now: datetime) -> bool:
        return self.silent_seconds(now) > self.late_after_seconds
