"""Presence: who is connected, with which status, and who is told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.utils import timezone

from hplus import errors
from hplus.accounts.models import STAFF_ROLES, User
from hplus.realtime import groups, messages
from hplus.realtime.actions import action, publish
from hplus.realtime.models import Connection, Contact, Mailbox, Presence, PresenceStatus
from hplus.realtime.publishing import publisher
from hplus.realtime.publishing.envelopes import Delivery, envelope_of
from hplus.realtime.publishing.push_wakeups import push_undelivered

UNDELIVERED_AT_CLOSE_SECONDS = 1  # what crossed the client's Close frame
DEAD_AFTER_SECONDS = 15  # a server beats every two; a database may be frozen for ten


@action
def register(connection: Connection) -> None:
    """Give a connection its row and mark its user online. Raises TooManyConnections."""
    presence, _ = Presence.objects.select_for_update().get_or_create(pk=connection.user_id)
    most = settings.HPLUS_MAX_SOCKETS_PER_USER
    if most and Connection.objects.filter(user=connection.user_id).count() >= most:
        raise errors.TooManyConnections()
    connection.save(force_insert=True)
    _mark_online(connection.user, presence)


def _mark_online(user: User, presence: Presence) -> None:
    was_offline = presence.status == PresenceStatus.OFFLINE
    presence.offline_due_at = None
    presence.last_seen_at = timezone.now()
    if was_offline:
        presence.status = PresenceStatus.AVAILABLE
    presence.save()
    if was_offline:
        _publish_presence(user, presence)


def come_back(connections: Iterable[Connection]) -> None:
    """Mark online whose server was taken for dead, and they with it, although they were connected."""
    for user in {connection.user_id: connection.user for connection in connections}.values():
        _come_back(user)


@action
def _come_back(user: User) -> None:
    presence = Presence.objects.select_for_update().filter(pk=user.pk).first()
    if presence is not None and Connection.objects.filter(user=user).exists():
        _mark_online(user, presence)


@action
def depart(connection: Connection, is_clean: bool) -> None:
    """Remove a connection. After a clean close its user is offline at once, else after a grace."""
    # With the mailbox locked, an action that writes an entry either sees us gone or is seen below.
    Mailbox.objects.select_for_update().filter(pk=connection.user_id).first()
    Connection.objects.filter(pk=connection.pk).delete()
    presence = Presence.objects.select_for_update().filter(pk=connection.user_id).first()
    if presence is None or Connection.objects.filter(user=connection.user_id).exists():
        return
    presence.last_seen_at = timezone.now()
    if is_clean:
        go_offline(connection.user, presence)
        since = timezone.now() - timedelta(seconds=UNDELIVERED_AT_CLOSE_SECONDS)
        push_undelivered(connection.user_id, since=since)
    else:
        presence.offline_due_at = timezone.now() + timedelta(seconds=settings.PRESENCE_GRACE_SECONDS)
        presence.save()


@action
def set_status(user: User, status: str) -> None:
    """Set the status that others see; published each time, since those who came meanwhile have not got it."""
    presence, _ = Presence.objects.select_for_update().get_or_create(pk=user.pk)
    presence.status, presence.last_seen_at = status, timezone.now()
    presence.save()
    _publish_presence(user, presence)


def go_offline(user: User, presence: Presence) -> None:
    """Mark offline; part of an action that has locked the row."""
    was_offline = presence.status == PresenceStatus.OFFLINE
    presence.status, presence.offline_due_at = PresenceStatus.OFFLINE, None
    presence.save()
    if not was_offline:
        _publish_presence(user, presence)


def _publish_presence(user: User, presence: Presence) -> None:
    """Publish to the staff of the user's hospital and to who shares a room or an emergency."""
    change = Change(
        user.pk, user.role, user.hospital_id, presence.status, presence.last_seen_at, _contacts(user)
    )
    publish(change.event(), *change.audience(), but=[user.pk])


@dataclass(frozen=True, slots=True)
class Change:
    """A presence that has changed, with the contacts who are told beside the staff of the hospital."""

    user_id: str
    role: str
    hospital_id: str | None
    status: str
    last_seen_at: datetime
    contacts: Sequence[str]

    @classmethod
    def of(cls, connection: Connection, status: str, now: datetime, contacts: Sequence[str]) -> Self:
        """Of who had this connection, seen now."""
        return cls(connection.user_id, connection.role, connection.hospital or None, status, now, contacts)

    def event(self) -> messages.UserOnline | messages.UserOffline:
        kind = messages.UserOffline if self.status == PresenceStatus.OFFLINE else messages.UserOnline
        return kind(
            user_id=self.user_id,
            role=self.role,
            hospital_id=self.hospital_id,
            status=self.status,
            last_seen=self.last_seen_at,
            timestamp=timezone.now(),
        )

    def audience(self) -> list[groups.Group]:
        persons = [groups.person(user_id) for user_id in self.contacts]
        is_staff = self.role in STAFF_ROLES and self.hospital_id is not None
        return [*persons, groups.staff(self.hospital_id or "")] if is_staff else persons


def publish_after_commit(changes: Iterable[Change]) -> None:
    """Publish what a statement has committed."""
    deliveries = []
    for change in changes:
        envelope = envelope_of(change.event(), but=(change.user_id,))
        deliveries += [Delivery(group.name, group.person, envelope) for group in change.audience()]
    if deliveries:
        publisher.publish(deliveries)


def _contacts(user: User) -> list[str]:
    """Return the userIds of who shares a room or an emergency, beside the staff of the own hospital.

    Those of a patient are staff.
    """
    contacts = Contact.objects.filter(user=user)
    if user.is_patient:
        contacts = contacts.exclude(contact__role="patient")
    else:
        contacts = contacts.exclude(contact__hospital=user.hospital_id, contact__role__in=STAFF_ROLES)
    return list(contacts.values_list("contact_id", flat=True).distinct())


# The same in a statement, for a row `person` with user_id, role and hospital (blank for none);
# `tests/realtime/test_presence.py` compares the two.
CONTACTS = """ARRAY(
    SELECT DISTINCT contact.contact_id
    FROM realtime_contact contact JOIN accounts_user other ON other.user_id = contact.contact_id
    WHERE contact.user_id = person.user_id AND CASE person.role
      WHEN 'patient' THEN other.role <> 'patient'
      ELSE other.role = 'patient' OR coalesce(other.hospital_id, '') <> person.hospital END
  )"""


def connected_among(user_ids: Iterable[str]) -> set[str]:
    """Return those of these people who have a connection to a server that is alive."""
    alive_since = timezone.now() - timedelta(seconds=DEAD_AFTER_SECONDS)
    found = Connection.objects.filter(user__in=list(user_ids), server__seen_at__gte=alive_since)
    return set(found.values_list("user_id", flat=True))


def last_seen(user_id: str) -> datetime | None:
    """Return when this person was last known to be connected."""
    return Presence.objects.filter(pk=user_id).values_list("last_seen_at", flat=True).first()


def online_among(user_ids: Iterable[str]) -> set[str]:
    """Return those of these people who are online."""
    online = Presence.objects.filter(pk__in=list(user_ids)).exclude(status=PresenceStatus.OFFLINE)
    return set(online.values_list("pk", flat=True))
