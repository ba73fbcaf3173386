"""What one transaction publishes: its mailbox entries, written before the commit, and its envelopes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from django.db import transaction
from django.utils import timezone

from hplus.protocol.wire import Durable, Event, new_id
from hplus.realtime.execution import bulk_insert
from hplus.realtime.groups import Group
from hplus.realtime.models import Mailbox, MailboxEntry
from hplus.realtime.publishing import publisher
from hplus.realtime.publishing.envelopes import Delivery, envelope_of
from hplus.realtime.publishing.push_wakeups import push_to_absent, wakeups_for

Recipients = list[tuple[Group, list[str]]]  # each group with the userIds a durable event is kept for


@dataclass
class _Publication:
    event: Event
    groups: tuple[Group, ...]
    but: frozenset[str]

    def recipients(self) -> Recipients:
        """Return each group with its members; who stands in two groups is a member of the first."""
        if not isinstance(self.event, Durable):
            return [(group, []) for group in self.groups]
        seen = set(self.but)
        recipients = []
        for group in self.groups:
            members = [user_id for user_id in group.members() if user_id not in seen]
            seen.update(members)
            recipients.append((group, members))
        return recipients


class Outgoing:
    """Collects what a transaction publishes."""

    def __init__(self) -> None:
        self._publications: list[_Publication] = []

    def add(self, event: Event, groups: tuple[Group, ...], but: frozenset[str]) -> None:
        self._publications.append(_Publication(event, groups, but))

    def write(self) -> None:
        """Write entries and pushes in this transaction, and deliver the envelopes after its commit."""
        recipients = [publication.recipients() for publication in self._publications]
        places = _draw_seqs(recipients)
        entries, deliveries, wakeups, now = [], [], [], timezone.now()
        for publication, groups, seqs in zip(self._publications, recipients, places, strict=True):
            event, event_id = publication.event, new_id() if seqs else ""
            envelope = envelope_of(event, event_id=event_id, but=tuple(publication.but))
            for group, members in groups:
                own = {user_id: seqs[user_id] for user_id in members if user_id in seqs}
                if own or not isinstance(event, Durable):
                    deliveries.append(Delivery(group.name, group.person, replace(envelope, seqs=own)))
            kept = {
                "event_type": envelope.event_type,
                "subject": envelope.subject,
                "event_id": event_id,
                "at": now,
            }
            entries += [{"user_id": user_id, "seq": seq, **kept} for user_id, seq in seqs.items()]
            wakeups += wakeups_for(event, event_id, seqs)
        bulk_insert.insert(MailboxEntry, entries)
        push_to_absent(wakeups)
        if deliveries:
            transaction.on_commit(lambda: publisher.publish(deliveries))


def _draw_seqs(recipients: list[Recipients]) -> list[dict[str, int]]:
    """Draw, for each publication, the next place in the mailbox of each of its recipients."""
    addressed = [[user for _, members in groups for user in members] for groups in recipients]
    counts = Counter(user for users in addressed for user in users)
    last = {user: last_seq - counts[user] for user, last_seq in Mailbox.objects.draw(counts).items()}
    drawn = []
    for users in addressed:
        for user in users:
            last[user] += 1
        drawn.append({user: last[user] for user in users})
    return drawn
