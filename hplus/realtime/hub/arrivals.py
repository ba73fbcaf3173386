"""Arrivals: all connections that come at once are registered together (PostgreSQL), or one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings
from django.utils import timezone

from hplus import errors
from hplus.realtime.execution import prepared
from hplus.realtime.hub import presence
from hplus.realtime.models import Connection, Epoch, Mailbox, PresenceStatus


@dataclass(frozen=True, slots=True)
class Registered:
    """What the database says to a connection when it has its row."""

    epoch: str
    last_seq: int


Outcome = Registered | errors.TooManyConnections


def register_all(connections: Sequence[Connection]) -> list[Outcome]:
    """Give each connection its row and mark its user online; safe to repeat.

    Returns TooManyConnections in the place of one whose user holds as many as allowed.
    """
    if prepared.is_available():
        return _register_together(connections)
    return [_register_one(connection) for connection in connections]


def _register_one(connection: Connection) -> Outcome:
    try:
        presence.register(connection)
    except errors.TooManyConnections as refused:
        return refused
    return Registered(Epoch.of(connection.user), Mailbox.objects.last_seq_of(connection.user_id))


# Together: the second statement sees what was committed before the first had its locks.

LOCK = """
SELECT user_id FROM realtime_presence WHERE user_id = ANY(%s)
ORDER BY user_id COLLATE "C" FOR NO KEY UPDATE
"""

REGISTER = f"""
WITH
-- The connections, in the order they came.
coming AS MATERIALIZED (
  SELECT * FROM json_to_recordset(%s::json) AS coming(
    n int, connection_id text, server_id uuid, user_id text, session_id uuid, role text, hospital text,
    rights_version int, device_id text, address inet, connected_at timestamptz)
),
allowed AS (SELECT %s::int AS most),
-- Those whose users hold fewer connections than allowed (0: any number), counting those before them.
admitted AS MATERIALIZED (
  SELECT numbered.*
  FROM (SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY n) AS nth FROM coming) numbered, allowed
  WHERE most = 0 OR most >= nth + (
    SELECT count(*) FROM realtime_connection held
    WHERE held.user_id = numbered.user_id
      AND held.connection_id <> ALL(ARRAY(SELECT connection_id FROM coming))
  )
),
registered AS (
  INSERT INTO realtime_connection (connection_id, server_id, user_id, session_id, role, hospital,
    rights_version, device_id, address, connected_at)
  SELECT connection_id, server_id, user_id, session_id, role, hospital, rights_version, device_id, address,
    connected_at
  FROM admitted
  ON CONFLICT (connection_id) DO NOTHING
),
-- As it was: the rows that there are have been locked.
before AS MATERIALIZED (
  SELECT user_id, status FROM realtime_presence WHERE user_id IN (SELECT user_id FROM admitted)
),
present AS (
  INSERT INTO realtime_presence (user_id, status, last_seen_at)
  SELECT user_id, '{PresenceStatus.AVAILABLE}', %s::timestamptz
  FROM admitted GROUP BY user_id ORDER BY user_id COLLATE "C"
  ON CONFLICT (user_id) DO UPDATE SET offline_due_at = NULL, last_seen_at = excluded.last_seen_at,
    status = CASE realtime_presence.status
      WHEN '{PresenceStatus.OFFLINE}' THEN excluded.status ELSE realtime_presence.status END
),
mailboxes AS (
  INSERT INTO realtime_mailbox (user_id, last_seq)
  SELECT user_id, 0 FROM admitted GROUP BY user_id ORDER BY user_id COLLATE "C"
  ON CONFLICT DO NOTHING
),
-- With whether nobody knew yet that this person is there, and who is told beside the staff.
person AS (
  SELECT admitted.*, before.status IS NULL OR before.status = '{PresenceStatus.OFFLINE}' AS is_news
  FROM admitted LEFT JOIN before USING (user_id)
)
SELECT person.n, (SELECT epoch FROM realtime_epoch WHERE id = 1), coalesce(mailbox.last_seq, 0),
  person.is_news, CASE WHEN person.is_news THEN {presence.CONTACTS} END
FROM person LEFT JOIN realtime_mailbox mailbox USING (user_id)
ORDER BY person.n
"""


def _register_together(connections: Sequence[Connection]) -> list[Outcome]:
    now = timezone.now()
    rows = [_row(number, connection) for number, connection in enumerate(connections)]
    user_ids = list({connection.user_id for connection in connections})
    _, found = prepared.statements.fetch_each(
        (LOCK, (user_ids,)),
        (REGISTER, (orjson.dumps(rows).decode(), settings.HPLUS_MAX_SOCKETS_PER_USER, now)),
    )
    outcomes: list[Outcome] = [errors.TooManyConnections() for _ in connections]
    changes = {}
    for number, epoch, last_seq, is_news, contacts in found:
        connection = connections[number]
        outcomes[number] = Registered(Epoch.of(connection.user, epoch), last_seq)
        if is_news:
            status = PresenceStatus.AVAILABLE
            changes[connection.user_id] = presence.Change.of(connection, status, now, contacts)
    presence.publish_after_commit(changes.values())
    return outcomes


def _row(number: int, connection: Connection) -> dict[str, Any]:
    return {
        "n": number,
        "connection_id": connection.connection_id,
        "server_id": connection.server_id,
        "user_id": connection.user_id,
        "session_id": connection.session_id,
        "role": connection.role,
        "hospital": connection.hospital,
        "rights_version": connection.rights_version,
        "device_id": connection.device_id,
        "address": connection.address,
        "connected_at": connection.connected_at,
    }
