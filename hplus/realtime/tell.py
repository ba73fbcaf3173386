"""A deed is one transaction; what it tells is heard after the commit.

`tell` inside a deed collects. When the deed is done, the letters of its durable events are
posted, last thing before the commit, so that mailboxes are locked briefly and always in the
same order; beside them, the pushes for recipients who have no socket. After the commit the
parcels go to the layer. A wake-up that gets lost there costs a moment: the listening server
finds the letter in its next round.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import ParamSpec, TypeVar

from django.db import transaction

from hplus.realtime import announcer
from hplus.realtime.groups import Group
from hplus.realtime.models import Letter, Mailbox
from hplus.realtime.parcels import pack
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
        letters, parcels, wakes = [], [], []
        for telling, audience, places in zip(self.tellings, recipients, seqs, strict=True):
            event_id = new_id() if places else ""
            parcel = pack(telling.event, event_id=event_id, but=tuple(telling.but))
            for group, members in audience:
                own = {user_id: places[user_id] for user_id in members if user_id in places}
                if own or not isinstance(telling.event, Durable):
                    parcels.append((group.name, replace(parcel, seqs=own)))
            letters += [
                Letter(
                    user_id=user_id,
                    seq=seq,
                    word=parcel.word,
                    subject=parcel.about,
                    event_id=event_id,
                )
                for user_id, seq in places.items()
            ]
            wakes += wakes_for(telling.event, event_id, places)
        if letters:
            Letter.objects.bulk_create(letters)
        wake_the_absent(wakes)
        if parcels:
            transaction.on_commit(lambda: announcer.announce(parcels))

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
    users = {user for audience in recipients for _, members in audience for user in members}
    if not users:
        return [{} for _ in recipients]
    boxes = _locked_mailboxes(users)
    drawn = []
    for audience in recipients:
        places = {}
        for user_id in (user for _, members in audience for user in members):
            boxes[user_id].last_seq += 1
            places[user_id] = boxes[user_id].last_seq
        drawn.append(places)
    Mailbox.objects.bulk_create(
        boxes.values(), update_conflicts=True, unique_fields=["user"], update_fields=["last_seq"]
    )
    return drawn


def _locked_mailboxes(users: set[str]) -> dict[str, Mailbox]:
    wanted = Mailbox.objects.select_for_update().filter(pk__in=users).order_by("pk")
    boxes = {box.user_id: box for box in wanted}
    if missing := users - boxes.keys():
        Mailbox.objects.bulk_create(
            [Mailbox(user_id=user_id) for user_id in sorted(missing)], ignore_conflicts=True
        )
        boxes = {box.user_id: box for box in wanted.all()}
    return boxes


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
