"""Reading mailboxes: entries, and the events rebuilt from the rows they are about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings

from hplus.accounts.models import User
from hplus.protocol.wire import Durable, subclasses
from hplus.realtime.execution import prepared
from hplus.realtime.models import MailboxEntry
from hplus.realtime.publishing.envelopes import Envelope, envelope_of

TRIED_FIRST = 16  # entries from which the size of the next ones is guessed
Placed = tuple[int, Envelope | None]  # the place in the mailbox, and the event; None where its row is gone


def page_between(user_id: str, after: int, up_to: int = 2**62, most: int | None = None) -> list[Placed]:
    """Return the first entries of a mailbox after a place with their rebuilt events.

    At most PAGE_EVENTS or `most`, and no more once they have PAGE_BYTES.
    """
    page: list[Placed] = []
    wanted, size_bytes, count = most or settings.PAGE_EVENTS, 0, TRIED_FIRST
    while count and size_bytes < settings.PAGE_BYTES:
        rows = list(MailboxEntry.objects.between(user_id, after, up_to)[: min(count, wanted - len(page))])
        envelopes = rebuilt_envelopes(rows)
        page += [(row.seq, envelopes.get(row.seq)) for row in rows]
        if not rows or len(page) >= wanted:
            break
        after = rows[-1].seq
        size_bytes += sum(len(envelope.frame) for envelope in envelopes.values())
        count = (settings.PAGE_BYTES - size_bytes) * len(page) // max(1, size_bytes)
    return page


def rebuilt_envelopes(rows: Iterable[MailboxEntry]) -> dict[int, Envelope]:
    """seq → envelope for entries of one mailbox, rebuilt from their rows as they are now."""
    return {row.seq: envelope_of(event, event_id=str(row.event_id)) for row, event in rebuilt_events(rows)}


def rebuilt_events(rows: Iterable[MailboxEntry]) -> list[tuple[MailboxEntry, Durable]]:
    """Return the events of these entries; none where the row, or the right to see it, is gone."""
    by_type = defaultdict(list)
    for row in rows:
        by_type[row.event_type].append(row)
    classes = {event_class.type: event_class for event_class in subclasses(Durable)}
    rebuilt: list[tuple[MailboxEntry, Durable]] = []
    for event_type, of_type in by_type.items():
        if event_class := classes.get(event_type):
            events = event_class.rebuild_for({(row.user_id, row.subject) for row in of_type})
            found = ((row, events.get((row.user_id, row.subject))) for row in of_type)
            rebuilt += [(row, event) for row, event in found if event is not None]
    return rebuilt


def newest_entries_about(user: User, event_type: str, subjects: Iterable[str]) -> list[Envelope]:
    """Return the newest entry this user has about each subject, rebuilt, oldest first."""
    found = MailboxEntry.objects.filter(user=user, event_type=event_type, subject__in=list(subjects))
    newest = sorted({row.subject: row for row in found.order_by("seq")}.values(), key=lambda row: row.seq)
    envelopes = rebuilt_envelopes(newest)
    return [envelopes[row.seq].for_recipient(user.pk, row.seq) for row in newest if row.seq in envelopes]


# Of many users at once

ENTRIES_ABOUT = """
SELECT entry.user_id, entry.seq, entry.event_type, entry.subject, entry.event_id
FROM unnest(%s::text[], %s::text[]) AS about(user_id, subject)
JOIN realtime_mailboxentry entry ON entry.user_id = about.user_id AND entry.subject = about.subject
WHERE entry.event_type = %s
"""


def entries_about(about: Iterable[tuple[str, str]], event_type: str) -> list[MailboxEntry]:
    """Return the committed entries of this type for pairs of a userId and a subject."""
    pairs = set(about)
    user_ids, subjects = [user_id for user_id, _ in pairs], [subject for _, subject in pairs]
    if prepared.is_available():
        rows = prepared.statements.fetch(ENTRIES_ABOUT, user_ids, subjects, event_type)
        return [entry_of(row) for row in rows]
    found = MailboxEntry.objects.filter(user__in=user_ids, subject__in=subjects, event_type=event_type)
    return [entry for entry in found if (entry.user_id, entry.subject) in pairs]


def entry_of(row: Sequence[Any]) -> MailboxEntry:
    """Make the instance of a row with user_id, seq, event_type, subject and event_id."""
    user_id, seq, event_type, subject, event_id = row
    return MailboxEntry(user_id=user_id, seq=seq, event_type=event_type, subject=subject, event_id=event_id)


def newest_entries(subjects: Mapping[str, Iterable[str]], event_type: str) -> dict[str, dict[str, Envelope]]:
    """userId → subject → the newest entry about it, rebuilt, for users and what each is to be told about."""
    about = [(user_id, subject) for user_id, own in subjects.items() for subject in own]
    entries = sorted(entries_about(about, event_type), key=lambda entry: entry.seq) if about else []
    newest = {(entry.user_id, entry.subject): entry for entry in entries}
    found: dict[str, dict[str, Envelope]] = {user_id: {} for user_id in subjects}
    for entry, envelope in envelopes_of(newest.values()):
        found[entry.user_id][entry.subject] = envelope.for_recipient(entry.user_id, entry.seq)
    return found


def envelopes_of(entries: Iterable[MailboxEntry]) -> Iterator[tuple[MailboxEntry, Envelope]]:
    """Return each entry whose row exists with its envelope, encoded once for all who see the same."""
    encoded: dict[tuple[str, str, str], Envelope] = {}
    for entry, event in rebuilt_events(entries):
        key = (entry.event_id, entry.event_type, event.subject())
        if key not in encoded:
            encoded[key] = envelope_of(event, event_id=entry.event_id)
        yield entry, encoded[key]
