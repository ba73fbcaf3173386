"""Replay: the mailbox entries that a client has missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings
from django.db import connection
from django.utils import timezone

from hplus.accounts.models import User
from hplus.portions import repeat_in_portions
from hplus.realtime.execution import prepared
from hplus.realtime.models import Epoch, MailboxEntry
from hplus.realtime.publishing.envelopes import Envelope
from hplus.realtime.publishing.mailbox import entry_of, envelopes_of, page_between

REPLAY_MOST = 10_000
TOGETHER_MOST = 20  # entries after one cursor that are read with those of others


@dataclass(frozen=True)
class Replay:
    """What a mailbox holds after a cursor; not `recovered` where that is too old or of another epoch.

    With `has_more` there are entries after these.
    """

    recovered: bool
    entries: list[tuple[int, Envelope | None]]
    since: int = 0
    has_more: bool = False

    def for_user(self, user_id: str) -> list[Envelope]:
        return [
            envelope.for_recipient(user_id, seq) for seq, envelope in self.entries if envelope is not None
        ]


def replay(user: User, since: int, epoch: str | None, up_to: int, most: int) -> Replay:
    """Read the first entries after `since`, in order: at most so many, and no more than PAGE_BYTES."""
    if not _is_valid(user, since, epoch, up_to):
        return Replay(recovered=False, entries=[])
    found = page_between(user.pk, since, up_to, most)
    last = found[-1][0] if found else up_to
    return Replay(recovered=True, entries=found, since=since, has_more=last < up_to)


def replay_later(user: User, since: int, epoch: str | None, up_to: int) -> Replay:
    """Return what a handshake says of this cursor; what comes after it is read page by page.

    Not recovered where there is more than REPLAY_MOST.
    """
    if up_to - since > REPLAY_MOST or not _is_valid(user, since, epoch, up_to):
        return Replay(recovered=False, entries=[])
    return Replay(recovered=True, entries=[], since=since, has_more=since < up_to)


def _is_valid(user: User, since: int, epoch: str | None, up_to: int) -> bool:
    is_current = not epoch or epoch == Epoch.of(user)
    return is_current and since <= up_to and _reaches_back_to(user, since, up_to)


# For many who connect at once


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a client has read: the last `seq` it has, and the epoch that counts in."""

    since: int
    epoch: str | None


@dataclass(frozen=True, slots=True)
class Missed:
    """What a user wants to know who connects: all after the cursor, up to the last `seq` of the mailbox."""

    user: User
    cursor: Cursor
    epoch: str  # of now
    last_seq: int

    @property
    def is_short(self) -> bool:
        """Whether it is valid and leaves so little that many may be read together."""
        is_valid = self.cursor.epoch in (None, "", self.epoch) and self.cursor.since <= self.last_seq
        return is_valid and self.user.moved_at is None and self.last_seq - self.cursor.since <= TOGETHER_MOST


def replay_each(wanted: Sequence[Missed]) -> list[Replay]:
    """Read together what is short; of the others only whether it is recovered (`replay_later`)."""
    together = [missed for missed in wanted if missed.is_short] if prepared.is_available() else []
    found = dict(zip(map(id, together), _replay_together(together), strict=True))
    return [found.get(id(missed)) or _replay_one(missed) for missed in wanted]


def _replay_one(missed: Missed) -> Replay:
    return replay_later(missed.user, missed.cursor.since, missed.cursor.epoch, missed.last_seq)


ENTRIES_AFTER = """
SELECT cursor.place, entry.user_id, entry.seq, entry.event_type, entry.subject, entry.event_id
FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) WITH ORDINALITY AS cursor(user_id, since, up_to, place)
JOIN realtime_mailboxentry entry ON entry.user_id = cursor.user_id
  AND entry.seq > cursor.since AND entry.seq <= cursor.up_to
ORDER BY entry.user_id, entry.seq
"""


def _replay_together(wanted: Sequence[Missed]) -> list[Replay]:
    behind = [missed for missed in wanted if missed.cursor.since < missed.last_seq]
    user_ids, sinces = [missed.user.pk for missed in behind], [missed.cursor.since for missed in behind]
    last_seqs = [missed.last_seq for missed in behind]
    rows = prepared.statements.fetch(ENTRIES_AFTER, user_ids, sinces, last_seqs) if behind else []
    entries = [(behind[place - 1], entry_of(row)) for place, *row in rows]
    envelopes = {(e.user_id, e.seq): envelope for e, envelope in envelopes_of(e for _, e in entries)}
    found: dict[int, list[tuple[int, Envelope | None]]] = {id(missed): [] for missed in wanted}
    for missed, entry in entries:
        found[id(missed)].append((entry.seq, envelopes.get((entry.user_id, entry.seq))))
    return [_replay_of(missed, found[id(missed)]) for missed in wanted]


def _replay_of(missed: Missed, entries: list[tuple[int, Envelope | None]]) -> Replay:
    since = missed.cursor.since
    reaches_back = since == missed.last_seq or bool(entries and entries[0][0] == since + 1)
    return Replay(reaches_back, entries if reaches_back else [], since if reaches_back else 0)


def _reaches_back_to(user: User, since: int, up_to: int) -> bool:
    """Whether the entry right after the cursor is still there, and not of a former place of this person."""
    next_entry = MailboxEntry.objects.between(user.pk, since, since + 1)
    if user.moved_at:
        next_entry = next_entry.filter(at__gte=user.moved_at)
    return since == up_to or next_entry.exists()


def delete_old_entries() -> int:
    """Delete entries older than the retention; a client away for longer reads the state by REST."""
    oldest = timezone.now() - timedelta(days=settings.MAILBOX_RETENTION_DAYS)
    return repeat_in_portions(partial(_delete_some, oldest))


# By where the rows lie: their keys are pairs, and a list of pairs takes long to plan.
DELETE_SOME = {
    "postgresql": """
DELETE FROM realtime_mailboxentry WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM realtime_mailboxentry WHERE at < %s ORDER BY at LIMIT %s FOR UPDATE SKIP LOCKED))
""",
    "sqlite": """
DELETE FROM realtime_mailboxentry WHERE rowid IN (
  SELECT rowid FROM realtime_mailboxentry WHERE at < %s ORDER BY at LIMIT %s)
""",
}


def _delete_some(oldest: datetime, limit: int) -> int:
    with connection.cursor() as cursor:
        adapted = connection.ops.adapt_datetimefield_value(oldest)
        cursor.execute(DELETE_SOME[connection.vendor], [adapted, limit])
        return cursor.rowcount
