"""Whoever has no socket is woken by a push, for what must not wait."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from hplus.push import actions as push
from hplus.push.actions import Wake
from hplus.realtime.announcer import is_here
from hplus.realtime.models import Connection, Letter
from hplus.realtime.rounds import events_of
from hplus.wire import Event


def wakes_for(event: Event, event_id: str, user_ids: Iterable[str]) -> list[Wake]:
    """What would wake these people; nothing where the event can wait, and never whoever caused it."""
    category = event.push_category()
    if not category:
        return []
    return [
        Wake(user_id, category, event.about(), event_id) for user_id in user_ids if user_id != event.author()
    ]


def wake_the_absent(wakes: list[Wake]) -> None:
    """Rows in the push outbox, part of the deed, for those without a socket."""
    away = {wake.user_id for wake in wakes if not is_here(wake.user_id)}  # spares a query most of the time
    absent = push.can_be_woken(away) if away else set()
    if absent:
        there = Connection.objects.filter(user__in=absent)
        absent -= set(there.values_list("user_id", flat=True))
        push.wake([wake for wake in wakes if wake.user_id in absent])


def wake_for_unheard(user_id: str, since: datetime) -> None:
    """What was said into a connection that turned out to be dead."""
    if not push.can_be_woken({user_id}):
        return
    rows = Letter.objects.filter(user=user_id, at__gte=since).order_by("seq")
    told = events_of(rows)
    push.wake([wake for row, event in told for wake in wakes_for(event, str(row.event_id), [user_id])])
