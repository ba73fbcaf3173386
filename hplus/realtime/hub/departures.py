"""Departures: all connections that end at once are removed together (PostgreSQL), or one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import orjson
from django.conf import settings
from django.utils import timezone

from hplus.realtime.execution import prepared
from hplus.realtime.hub import presence
from hplus.realtime.models import Connection, PresenceStatus
from hplus.realtime.publishing.push_wakeups import may_need_push


@dataclass(frozen=True, slots=True)
class Departure:
    """A connection that has ended; `is_clean` where its client closed it."""

    connection: Connection
    is_clean: bool


def remove_all(departures: Sequence[Departure]) -> None:
    """Remove these connections. After a clean close a user is offline at once, else after a grace."""
    if prepared.is_available():
        _remove_together(departures)
        return
    for departure in departures:
        presence.depart(departure.connection, departure.is_clean)


# Together: the second statement sees what was committed before the first had its locks.

REMOVE = """
WITH
leaving AS MATERIALIZED (
  SELECT * FROM unnest(%s::text[], %s::text[]) AS leaving(connection_id, user_id)
),
-- With the mailbox locked, an action that writes an entry either sees the connection gone or is seen below.
mailboxes AS MATERIALIZED (
  SELECT user_id FROM realtime_mailbox WHERE user_id IN (SELECT user_id FROM leaving)
  ORDER BY user_id COLLATE "C" FOR UPDATE
),
presences AS MATERIALIZED (
  SELECT presence.user_id
  FROM realtime_presence presence, (SELECT count(*) FROM mailboxes) mailboxes_first
  WHERE presence.user_id IN (SELECT user_id FROM leaving)
  ORDER BY presence.user_id COLLATE "C" FOR NO KEY UPDATE OF presence
)
DELETE FROM realtime_connection
WHERE connection_id IN (SELECT connection_id FROM leaving) AND (SELECT count(*) FROM presences) >= 0
"""

MARK_GONE = f"""
WITH
-- Of several connections of one person the last one counts.
leaving AS MATERIALIZED (
  SELECT DISTINCT ON (user_id) *
  FROM json_to_recordset(%s::json) AS leaving(n int, user_id text, role text, hospital text, is_clean bool)
  ORDER BY user_id, n DESC
),
-- Those who have no other connection; whether a push may be due is another matter (below).
person AS MATERIALIZED (
  SELECT leaving.*, presence.status, is_clean AND {may_need_push("leaving.user_id")} AS is_push_likely
  FROM leaving JOIN realtime_presence presence USING (user_id)
  WHERE NOT EXISTS (SELECT FROM realtime_connection other WHERE other.user_id = leaving.user_id)
),
gone AS (
  UPDATE realtime_presence presence SET last_seen_at = %s::timestamptz,
    status = CASE WHEN is_clean THEN '{PresenceStatus.OFFLINE}' ELSE presence.status END,
    offline_due_at = CASE WHEN is_clean THEN NULL ELSE %s::timestamptz END
  FROM person WHERE presence.user_id = person.user_id AND NOT is_push_likely
)
SELECT person.n, is_push_likely, {presence.CONTACTS}
FROM person WHERE is_push_likely OR is_clean AND status <> '{PresenceStatus.OFFLINE}'
"""


def _remove_together(departures: Sequence[Departure]) -> None:
    now = timezone.now()
    connections = [departure.connection for departure in departures]
    rows = [_row(number, departure) for number, departure in enumerate(departures)]
    undelivered_since = now - timedelta(seconds=presence.UNDELIVERED_AT_CLOSE_SECONDS)
    offline_due_at = now + timedelta(seconds=settings.PRESENCE_GRACE_SECONDS)
    _, found = prepared.statements.fetch_each(
        (REMOVE, ([c.connection_id for c in connections], [c.user_id for c in connections])),
        (MARK_GONE, (orjson.dumps(rows).decode(), undelivered_since, now, offline_due_at)),
    )
    gone = [
        (connections[number], contacts) for number, is_push_likely, contacts in found if not is_push_likely
    ]
    presence.publish_after_commit(
        presence.Change.of(connection, PresenceStatus.OFFLINE, now, contacts) for connection, contacts in gone
    )
    for number, is_push_likely, _ in found:
        if is_push_likely:  # the ordinary way: the push and the presence in one transaction
            presence.depart(connections[number], is_clean=True)


def _row(number: int, departure: Departure) -> dict[str, object]:
    connection = departure.connection
    return {
        "n": number,
        "user_id": connection.user_id,
        "role": connection.role,
        "hospital": connection.hospital,
        "is_clean": departure.is_clean,
    }
