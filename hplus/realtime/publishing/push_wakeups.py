"""Push wake-ups: a recipient without a connection is woken by a push, for what must not wait."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from hplus.protocol.wire import Event
from hplus.push import actions as push
from hplus.push.actions import Wakeup
from hplus.push.models import may_have_device
from hplus.realtime.models import Connection, MailboxEntry
from hplus.realtime.publishing.mailbox import rebuilt_events
from hplus.realtime.publishing.publisher import has_connection


def wakeups_for(event: Event, event_id: str, user_ids: Iterable[str]) -> list[Wakeup]:
    """Return what would wake these people; nothing where the event can wait, and never its author."""
    category = event.push_category()
    if not category:
        return []
    author, subject = event.author(), event.subject()
    return [Wakeup(user_id, category, subject, event_id) for user_id in user_ids if user_id != author]


def push_to_absent(wakeups: list[Wakeup]) -> None:
    """Write rows into the push outbox, in this transaction, for those without a connection."""
    elsewhere = {wakeup.user_id for wakeup in wakeups if not has_connection(wakeup.user_id)}
    absent = push.can_be_woken(elsewhere) if elsewhere else set()  # has_connection spares this query mostly
    if absent:
        connected = Connection.objects.filter(user__in=absent)
        absent -= set(connected.values_list("user_id", flat=True))
        push.wake([wakeup for wakeup in wakeups if wakeup.user_id in absent])


def push_undelivered(user_id: str, since: datetime) -> None:
    """Push what was written into a connection that turned out to be dead."""
    if not push.can_be_woken({user_id}):
        return
    rows = MailboxEntry.objects.filter(user=user_id, at__gte=since).order_by("seq")
    events = rebuilt_events(rows)
    push.wake(
        [wakeup for row, event in events for wakeup in wakeups_for(event, str(row.event_id), [user_id])]
    )


def may_need_push(user_id: str) -> str:
    """Return an SQL condition on a user, itself SQL, without which `push_undelivered` has nothing to push.

    Its parameter is `since`.
    """
    return f"""({may_have_device(user_id)} AND %s::timestamptz <= (
      SELECT entry.at FROM realtime_mailboxentry entry WHERE entry.user_id = {user_id}
      ORDER BY entry.seq DESC LIMIT 1))"""
