"""Reading mailboxes: entries, and the events rebuilt from the rows they are about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from hplus.accounts.models import User
from hplus.protocol.wire import Durable, subclasses
from hplus.realtime.models import MailboxEntry
from hplus.realtime.publishing.envelopes import Envelope, envelope_of

ENTRIES_AT_ONCE = 500


def entries_between(
    user_id: str, after: int, up_to: int = 2**62, most: int = ENTRIES_AT_ONCE
) -> list[tuple[int, Envelope | None]]:
    """The entries of a mailbox with their rebuilt events; None in place of one whose row is gone."""
    rows = list(MailboxEntry.objects.between(user_id, after, up_to)[:most])
    envelopes = rebuilt_envelopes(rows)
    return [(row.seq, envelopes.get(row.seq)) for row in rows]


def rebuilt_envelopes(rows: Iterable[MailboxEntry]) -> dict[int, Envelope]:
    """seq → envelope for entries of one mailbox, rebuilt from their rows as they are now."""
    return {row.seq: envelope_of(event, event_id=str(row.event_id)) for row, event in rebuilt_events(rows)}


def rebuilt_events(rows: Iterable[MailboxEntry]) -> list[tuple[MailboxEntry, Durable]]:
    """The events of these entries, rebuilt type by type; those whose row is gone are left out."""
    by_type = defaultdict(list)
    for row in rows:
        by_type[row.event_type].append(row)
    classes = {event_class.type: event_class for event_class in subclasses(Durable)}
    rebuilt: list[tuple[MailboxEntry, Durable]] = []
    for event_type, of_type in by_type.items():
        if event_class := classes.get(event_type):
            events = event_class.rebuild({row.subject for row in of_type})
            rebuilt += [(row, events[row.subject]) for row in of_type if row.subject in events]
    return rebuilt


def newest_entries_about(user: User, event_type: str, subjects: Iterable[str]) -> list[Envelope]:
    """The newest entry this user has about each subject, rebuilt, oldest first."""
    found = MailboxEntry.objects.filter(user=user, event_type=event_type, subject__in=list(subjects))
    newest = sorted({row.subject: row for row in found.order_by("seq")}.values(), key=lambda row: row.seq)
    envelopes = rebuilt_envelopes(newest)
    return [envelopes[row.seq].for_recipient(user.pk, row.seq) for row in newest if row.seq in envelopes]
