"""Clauses for hot statements: what `Outgoing` does for an action, in SQL (PostgreSQL)."""

from __future__ import annotations


def mailbox_clauses(event_type: str) -> str:
    """Three clauses of a WITH that write a durable event into mailboxes.

    They read a relation `addressed(user_id, subject, event_id, place, at)`, one row for each recipient of
    each event; `place` is the order within one mailbox. `placed` then has `seq` beside these columns.
    Mailboxes are locked in the order of their keys, by code point as Python sorts them, so that no two
    transactions wait for each other.
    """
    return f"""
    -- How many places each mailbox gives, and which of them each event takes.
    counted AS MATERIALIZED (
      SELECT addressed.*,
        row_number() OVER (PARTITION BY user_id ORDER BY place) AS nth,
        count(*) OVER (PARTITION BY user_id) AS taken
      FROM addressed
    ),
    -- Counting up locks the mailbox until the commit: seq order is commit order.
    mailboxes AS (
      INSERT INTO realtime_mailbox (user_id, last_seq)
      SELECT user_id, max(taken) FROM counted GROUP BY user_id ORDER BY user_id COLLATE "C"
      ON CONFLICT (user_id) DO UPDATE SET last_seq = realtime_mailbox.last_seq + excluded.last_seq
      RETURNING user_id, last_seq
    ),
    placed AS MATERIALIZED (
      SELECT counted.*, mailboxes.last_seq - taken + nth AS seq FROM counted JOIN mailboxes USING (user_id)
    ),
    entries AS (
      INSERT INTO realtime_mailboxentry (user_id, seq, event_type, subject, event_id, at)
      SELECT user_id, seq, '{event_type}', subject, event_id, at FROM placed
    )"""


def push_clauses(category: str) -> str:
    """Return two clauses of a WITH that wake those without any connection.

    They read a relation `woken(user_id, subject, event_id, at)`: rows of `placed` of those to be woken.
    Whether a user has a connection is asked while the mailbox is locked: a departure either is seen here, or
    finds the entry.
    """
    return f"""
    devices AS MATERIALIZED (
      SELECT device.id, woken.*
      FROM woken
      JOIN push_pushdevice device ON device.user_id = woken.user_id
        AND device.disabled_at IS NULL AND device.revoked_at IS NULL
      JOIN accounts_session session ON session.session_id = device.session_id AND session.revoked_at IS NULL
    ),
    pushes AS (
      INSERT INTO push_pushoutbox
        (device_id, category, subject, event_id, state, created_at, due_at, attempts, last_error)
      SELECT id, '{category}', subject, event_id::uuid, 'waiting', at, at, 0, ''
      FROM devices WHERE NOT realtime_is_connected(user_id)
      ON CONFLICT DO NOTHING
    )"""
