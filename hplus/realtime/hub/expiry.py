"""Expiry: who has had no connection for the grace is offline, and what a dead server left is removed."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from hplus.realtime.actions import action
from hplus.realtime.execution import prepared
from hplus.realtime.hub import presence
from hplus.realtime.models import Connection, Presence, PresenceStatus, ServerProcess
from hplus.realtime.publishing.push_wakeups import may_need_push, push_undelivered

UNDELIVERED_SECONDS = 90  # a dead connection is noticed after at most 40, and then comes the grace
EXPIRED_AT_ONCE = 200


def expire_presence() -> int:
    """Mark offline who has had no connection for the grace. Returns how many."""
    if prepared.is_available():
        return _expire_together()
    due = presences_to_expire(timezone.now()).values_list("pk", flat=True)
    return sum(_expire_one(user_id) for user_id in due[:EXPIRED_AT_ONCE])


def presences_to_expire(now: datetime) -> QuerySet[Presence]:
    return Presence.objects.filter(offline_due_at__lte=now)


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
    presence.go_offline(claimed.user, claimed)
    push_undelivered(user_id, since=_undelivered_since(timezone.now()))
    return True


def _undelivered_since(now: datetime) -> datetime:
    return now - timedelta(seconds=UNDELIVERED_SECONDS)


EXPIRE = f"""
WITH
-- Those whose time is over and whom no other process holds.
due AS MATERIALIZED (
  SELECT user_id, status, last_seen_at FROM realtime_presence WHERE offline_due_at <= %s::timestamptz
  ORDER BY user_id COLLATE "C" LIMIT {EXPIRED_AT_ONCE} FOR NO KEY UPDATE SKIP LOCKED
),
-- Whether a push may be due is another matter (below).
person AS MATERIALIZED (
  SELECT due.*, account.role, coalesce(account.hospital_id, '') AS hospital,
    EXISTS (SELECT FROM realtime_connection c WHERE c.user_id = due.user_id) AS is_back,
    {may_need_push("due.user_id")} AS is_push_likely
  FROM due JOIN accounts_user account USING (user_id)
),
expired AS (
  UPDATE realtime_presence presence SET offline_due_at = NULL,
    status = CASE WHEN is_back THEN presence.status ELSE '{PresenceStatus.OFFLINE}' END
  FROM person WHERE presence.user_id = person.user_id AND (is_back OR NOT is_push_likely)
)
SELECT user_id, role, hospital, last_seen_at, status <> '{PresenceStatus.OFFLINE}', is_push_likely,
  {presence.CONTACTS}
FROM person WHERE NOT is_back
"""


def _expire_together() -> int:
    now = timezone.now()
    found = prepared.statements.fetch(EXPIRE, now, _undelivered_since(now))
    changes, expired = [], 0
    for user_id, role, hospital, last_seen_at, is_news, is_push_likely, contacts in found:
        if is_push_likely:  # the ordinary way: the push and the presence in one transaction
            expired += _expire_one(user_id)
            continue
        expired += 1
        if is_news:
            status = PresenceStatus.OFFLINE
            changes.append(presence.Change(user_id, role, hospital or None, status, last_seen_at, contacts))
    presence.publish_after_commit(changes)
    return expired


def expire_dead_servers() -> int:
    """Delete servers not seen for DEAD_AFTER_SECONDS with their connections; their users get the grace."""
    dead_since = timezone.now() - timedelta(seconds=presence.DEAD_AFTER_SECONDS)
    expired, _ = ServerProcess.objects.filter(seen_at__lt=dead_since).delete()
    no_socket = ~Exists(Connection.objects.filter(user=OuterRef("pk")))
    ghosts = Presence.objects.filter(~Q(status=PresenceStatus.OFFLINE) & no_socket, offline_due_at=None)
    ghosts.update(offline_due_at=timezone.now() + timedelta(seconds=settings.PRESENCE_GRACE_SECONDS))
    return expired
