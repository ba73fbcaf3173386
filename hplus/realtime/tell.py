"""A deed is one transaction; what it tells is heard after the commit.

`tell` inside a deed collects. When the deed is done, the letters of its durable events are
posted, last thing before the commit, so that mailboxes are locked briefly and always in the
same order; beside them, the pushes for recipients who have no socket. After the commit the
parcels go to the layer. A wake-up that gets lost there costs a moment: the listening server
finds the letter in its next round.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import ParamSpec, TypeVar

from django.db import transaction
from django.utils import timezone

from hplus.realtime import announcer, rows
from hplus.realtime.groups import Group
from hplus.realtime.models import Letter, Mailbox
from hplus.realtime.parcels import Post, pack
from hplus.realtime.waking import wake_the_absent, wakes_for
from hplus.wire import Durable, Event, new_id

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class _Telling:
    event: Event
    groups: tuple[Group, ...]
    but: frozenset[str]


@dataclass
class _Voice:
    """What one deed has to say."""

    tellings: list[_Telling] = field(default_factory=list)

    def post(self) -> None:
        """Write the letters and leave the parcels for after the commit."""
        recipients = [self._recipients(telling) for telling in self.tellings]
        seqs = _draw_seqs(recipients)
        letters, posts, wakes, now = [], [], [], timezone.now()
        for telling, audience, places in zip(self.tellings, recipients, seqs, strict=True):
            event_id = new_id() if places else ""
            parcel = pack(telling.event, event_id=event_id, but=tuple(telling.but))
            for group, members in audience:
                own = {user_id: places[user_id] for user_id in members if user_id in places}
                if own or not isinstance(telling.event, Durable):
                    posts.append(Post(group.name, group.person, replace(parcel, seqs=own)))
            letter = {"word": parcel.word, "subject": parcel.about, "event_id": event_id, "at": now}
            letters += [{"user_id": user_id, "seq": seq, **letter} for user_id, seq in places.items()]
            wakes += wakes_for(telling.event, event_id, places)
        rows.insert(Letter, letters)
        wake_the_absent(wakes)
        if posts:
            transaction.on_commit(lambda: announcer.announce(posts))

    @staticmethod
    def _recipients(telling: _Telling) -> list[tuple[Group, list[str]]]:
        """Each group with those of its members the event is kept for; nobody stands in two."""
        if not isinstance(telling.event, Durable):
            return [(group, []) for group in telling.groups]
        seen = set(telling.but)
        audience = []
        for group in telling.groups:
            members = [user_id for user_id in group.members() if user_id not in seen]
            seen.update(members)
            audience.append((group, members))
        return audience


def _draw_seqs(recipients: list[list[tuple[Group, list[str]]]]) -> list[dict[str, int]]:
    """For each telling, the next place in the mailbox of each of its recipients."""
    addressed = [[user for _, members in audience for user in members] for audience in recipients]
    counts = Counter(user for users in addressed for user in users)
    last = {user: last_seq - counts[user] for user, last_seq in Mailbox.objects.draw(counts).items()}
    drawn = []
    for users in addressed:
        for user in users:
            last[user] += 1
        drawn.append({user: last[user] for user in users})
    return drawn


_voice: ContextVar[_Voice | None] = ContextVar("voice", default=None)


def deed(action: Callable[P, R]) -> Callable[P, R]:
    """One transaction whose tellings are heard if, and only if, it commits.

    A deed within a deed is part of it.
    """

    @functools.wraps(action)
    def done(*args: P.args, **kwargs: P.kwargs) -> R:
        if _voice.get() is not None:
            return action(*args, **kwargs)
        token = _voice.set(voice := _Voice())
        try:
            with transaction.atomic():
                result = action(*args, **kwargs)
                voice.post()
                return result
        finally:
            _voice.reset(token)

    return done


def tell(event: Event, *groups: Group, but: Iterable[str] = ()) -> None:
    """Say this to these groups once the deed is committed, in the order of the calls.

    A durable event is kept for every member; any other reaches whoever listens then. `but`
    are userIds it is not for.
    """
    voice = _voice.get()
    if voice is None:
        raise RuntimeError(f"tell({event.type}) outside a deed")
    voice.tellings.append(_Telling(event, groups, frozenset(but)))
