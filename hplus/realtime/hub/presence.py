"""Presence: who is connected, with which status, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from hplus import errors
from hplus.accounts.models import STAFF_ROLES, User
from hplus.realtime import groups, messages
from hplus.realtime.actions import action, publish
from hplus.realtime.hub.server_registration import ServerRegistration
from hplus.realtime.models import Connection, Contact, Epoch, Mailbox, Presence, PresenceStatus, ServerProcess
from hplus.realtime.publishing.push_wakeups import push_undelivered

UNDELIVERED_SECONDS = 90  # a dead connection is noticed after at most 40, and then comes the grace
UNDELIVERED_AT_CLOSE_SECONDS = 1  # what crossed the client's Close frame
DEAD_AFTER_SECONDS = 15  # a server beats every two; a database may be frozen for ten


@dataclass(frozen=True)
class Arrival:
    """What the database says to a connection that has just been registered."""

    epoch: str
    last_seq: int
    snapshot: dict[str, Any]


def arrive(
    server: ServerRegistration, connection: Connection, snapshot: Callable[[], dict[str, Any]]
) -> Arrival:
    """Register a connection and read what its user should see first. Raises TooManyConnections."""
    server.register()
    _register(connection)
    box, _ = Mailbox.objects.get_or_create(pk=connection.user_id)
    return Arrival(Epoch.current(), box.last_seq, snapshot())


@action
def _register(connection: Connection) -> None:
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
        _go_offline(connection.user, presence)
        _push_undelivered(presence, UNDELIVERED_AT_CLOSE_SECONDS)
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


def _go_offline(user: User, presence: Presence) -> None:
    was_offline = presence.status == PresenceStatus.OFFLINE
    presence.status, presence.offline_due_at = PresenceStatus.OFFLINE, None
    presence.save()
    if not was_offline:
        _publish_presence(user, presence)


def _push_undelivered(presence: Presence, seconds: float) -> None:
    push_undelivered(presence.pk, since=timezone.now() - timedelta(seconds=seconds))


def _publish_presence(user: User, presence: Presence) -> None:
    """Publish to the staff of the user's hospital and to who shares a room or an emergency."""
    kind = messages.UserOffline if presence.status == PresenceStatus.OFFLINE else messages.UserOnline
    event = kind(
        user_id=user.user_id,
        role=user.role,
        hospital_id=user.hospital_id,
        status=presence.status,
        last_seen=presence.last_seen_at,
        timestamp=timezone.now(),
    )
    publish(event, *_presence_audience(user), but=[user.user_id])


def _presence_audience(user: User) -> list[groups.Group]:
    contacts = Contact.objects.filter(user=user)
    if user.is_patient:
        contacts = contacts.exclude(contact__role="patient")
        return [groups.person(pk) for pk in contacts.values_list("contact_id", flat=True).distinct()]
    others = contacts.exclude(contact__hospital=user.hospital_id, contact__role__in=STAFF_ROLES)
    audience = [groups.person(pk) for pk in others.values_list("contact_id", flat=True).distinct()]
    return [*audience, groups.staff(user.hospital_id)] if user.hospital_id else audience


def online_among(user_ids: Iterable[str]) -> set[str]:
    """Those of these people who are online."""
    online = Presence.objects.filter(pk__in=list(user_ids)).exclude(status=PresenceStatus.OFFLINE)
    return set(online.values_list("pk", flat=True))


# Jobs


def expire_presence() -> int:
    """Mark offline who has had no connection for the grace. Returns how many."""
    due = Presence.objects.filter(offline_due_at__lte=timezone.now()).values_list("pk", flat=True)
    return sum(_expire_one(user_id) for user_id in due[:200])


@action
def _expire_one(user_id: str) -> bool:
    claimed = (
        Presence.objects.select_for_update(skip_locked=True, of=("self",))
        .select_related("user")
        .filter(pk=user_id, offline_due_at__lte=timezone.now())
        .first()
    )
    if claimed is None:
        return False
    if Connection.objects.filter(user=user_id).exists():
        Presence.objects.filter(pk=user_id).update(offline_due_at=None)
        return False
    _go_offline(claimed.user, claimed)
    _push_undelivered(claimed, UNDELIVERED_SECONDS)
    return True


def expire_dead_servers() -> int:
    """Delete servers not seen for DEAD_AFTER_SECONDS with their connections; their users get the grace."""
    dead = ServerProcess.objects.filter(seen_at__lt=timezone.now() - timedelta(seconds=DEAD_AFTER_SECONDS))
    expired, _ = dead.delete()
    no_socket = ~Exists(Connection.objects.filter(user=OuterRef("pk")))
    ghosts = Presence.objects.filter(~Q(status=PresenceStatus.OFFLINE) & no_socket, offline_due_at=None)
    ghosts.update(offline_due_at=timezone.now() + timedelta(seconds=settings.PRESENCE_GRACE_SECONDS))
    return expired
