"""Conflation: rate-limited delivery of positions and presence.

Five hundred crews and twenty watchers make ten thousand positions a second, a thousand phones that come
back at once half a million presence events. So these are not written when they come: all clients get what
is new together, at most once per interval, and no other event waits for it. Of positions each gets the
newest of every sender, at a pace (`latest`), of presence all (`live`). Clients that have seen the same get
the same frames, made once, so that each costs a hospital one write per interval whatever there is to write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import chain, takewhile
from operator import itemgetter

from hplus.realtime.hub.listener import Audience, Listener
from hplus.realtime.publishing.envelopes import Envelope

logger = logging.getLogger(__name__)
BUSY_SECONDS = 0.005  # so long is written before other work has its turn
FRAMES_AT_ONCE = 500  # in one write to one client; less than it may have waiting
REMEMBERED = 1_000  # events of one audience that are not conflated to the newest
GATHER_SECONDS = 0.05  # what is published in several parts is written in one

Event = tuple[int, Envelope]  # its turn: the how many-th event it is


@dataclass(frozen=True, slots=True)
class Portion:
    """Events that are written together, made once for all clients that get the same."""

    events: list[Event]
    frames: tuple[bytes, ...]
    not_for: frozenset[str]  # users whom one of the events is not for

    @classmethod
    def of(cls, events: list[Event]) -> Portion:
        frames = tuple(envelope.frame for _, envelope in events)
        return cls(events, frames, frozenset().union(*(envelope.but for _, envelope in events)))

    @property
    def last_turn(self) -> int:
        return self.events[-1][0]

    def frames_for(self, user_id: str) -> tuple[bytes, ...]:
        if user_id not in self.not_for:
            return self.frames
        return tuple(envelope.frame for _, envelope in self.events if user_id not in envelope.but)


def portions_of(events: list[Event]) -> list[Portion]:
    starts = range(0, len(events), FRAMES_AT_ONCE)
    return [Portion.of(events[start : start + FRAMES_AT_ONCE]) for start in starts]


class RecentEvents:
    """The events of one audience, in the order they came.

    With `only_newest` the newest of each author, else everything up to REMEMBERED, then the newest too.
    """

    def __init__(self, *, only_newest: bool) -> None:
        self._only_newest = only_newest
        self._events: dict[str | int, Event] = {}
        self._portions: dict[int, list[Portion]] = {}  # by the turn they begin after, until something changes

    def put(self, turn: int, envelope: Envelope) -> None:
        key = envelope.author if self._only_newest else turn
        self._events.pop(key, None)  # so that it stands last
        self._events[key] = (turn, envelope)
        self._portions.clear()
        if len(self._events) > REMEMBERED and not self._only_newest:
            newest = {envelope.author: turn for turn, envelope in self._events.values()}
            self._events = {turn: self._events[turn] for turn in sorted(newest.values())}

    def since(self, turn: int) -> list[Event]:
        newer = takewhile(lambda event: event[0] > turn, reversed(self._events.values()))
        return list(newer)[::-1]

    def portions_since(self, turn: int) -> list[Portion]:
        if turn not in self._portions:
            self._portions[turn] = portions_of(self.since(turn))
        return self._portions[turn]

    def revoke(self, author: str, topic: str) -> None:
        revoked = {key for key in self._keys_of(author) if self._events[key][1].topic == topic}
        for key in revoked:
            del self._events[key]
        self._portions.clear()

    def _keys_of(self, author: str) -> Iterable[str | int]:
        if self._only_newest:
            return {author} & self._events.keys()
        return [key for key, (_, envelope) in self._events.items() if envelope.author == author]


class Pace:
    """Holds back the newest event of each author until the one before it is `seconds` old."""

    def __init__(self) -> None:
        self._waiting: dict[str, Envelope] = {}
        self._released_at: dict[str, float] = {}

    def hold(self, envelope: Envelope) -> None:
        self._waiting.pop(envelope.author, None)  # so that it stands last
        self._waiting[envelope.author] = envelope

    def release(self, now: float, seconds: float) -> list[Envelope]:
        """Return what may be written now, in the order it came; the rest goes on waiting."""
        at, never = self._released_at, float("-inf")
        ready = [author for author in self._waiting if at.get(author, never) + seconds <= now]
        at.update(dict.fromkeys(ready, now))
        return [self._waiting.pop(author) for author in ready]

    def revoke(self, author: str, topic: str) -> None:
        if (waiting := self._waiting.get(author)) and waiting.topic == topic:
            del self._waiting[author]

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)


class Conflation:
    """Which clients have something new to get, and the one task that writes it.

    `interval_seconds` lie at least between two writes to one client. With `pace_seconds` only the newest
    event of each author counts, and so many seconds lie between two of one author. `listeners_of` tells who
    listens as an audience.
    """

    def __init__(
        self,
        interval_seconds: Callable[[], float],
        listeners_of: Callable[[Audience], Collection[Listener]],
        pace_seconds: Callable[[], float] | None = None,
    ) -> None:
        self._interval_seconds, self._listeners_of = interval_seconds, listeners_of
        self._pace_seconds = pace_seconds
        self._turn = 0
        self._recent: dict[Audience, RecentEvents] = {}
        self._paces: dict[Audience, Pace] = {}
        self._served: dict[Listener, int] = {}  # up to which turn
        self._joined: dict[Listener, dict[Audience, int]] = {}  # after which turn, where that is later
        self._changed: set[Audience] = set()
        self._due: set[Listener] = set()
        self._written_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def begin(self, client: Listener) -> None:
        """A client gets what is written from now on."""
        self._served[client] = self._turn

    def join(self, client: Listener, audience: Audience) -> None:
        """A client listens as this audience too; it gets what is written from now on."""
        if audience in self._recent and self._served.get(client, 0) < self._turn:
            self._joined.setdefault(client, {})[audience] = self._turn

    def leave(self, client: Listener) -> None:
        self._due.discard(client)
        self._served.pop(client, None)
        self._joined.pop(client, None)

    def forget(self, audience: Audience) -> None:
        """Drop what waits for an audience that has no listener any more."""
        self._recent.pop(audience, None)
        self._paces.pop(audience, None)
        self._changed.discard(audience)

    def offer(self, audience: Audience, envelope: Envelope) -> None:
        """Keep the event for the next write to each listener; drop it where there is none."""
        if not self._listeners_of(audience):
            return
        self._changed.add(audience)
        if self._pace_seconds is None:
            self._put(audience, envelope)
        elif pace := self._paces.get(audience):
            pace.hold(envelope)
        else:
            self._paces[audience] = pace = Pace()
            pace.hold(envelope)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write_all())

    def _put(self, audience: Audience, envelope: Envelope) -> None:
        self._turn += 1
        recent = self._recent.get(audience)
        if recent is None:
            recent = RecentEvents(only_newest=self._pace_seconds is not None)
            self._recent[audience] = recent
        recent.put(self._turn, envelope)

    def revoke(self, author: str, topic: str) -> None:
        """Drop what of this author and topic has not been written yet."""
        for recent in self._recent.values():
            recent.revoke(author, topic)
        for pace in self._paces.values():
            pace.revoke(author, topic)

    async def _write_all(self) -> None:
        """Write at the interval, until nobody has anything to get."""
        now = asyncio.get_running_loop().time
        while self._changed or self._due:
            due_at = self._written_at + self._interval_seconds()
            await asyncio.sleep(max(GATHER_SECONDS, due_at - now()))
            self._written_at = now()
            self._release(now())
            await self._write_due()

    def _release(self, now: float) -> None:
        """What has changed is due for those who listen, as far as its pace allows."""
        changed, self._changed = self._changed, set()
        for audience in changed:
            if self._pace_seconds is not None:
                pace = self._paces[audience]
                for envelope in pace.release(now, self._pace_seconds()):
                    self._put(audience, envelope)
                if pace.is_waiting:
                    self._changed.add(audience)
            self._due.update(self._listeners_of(audience))

    async def _write_due(self) -> None:
        """Everybody once, with a pause after each stretch of work, as long as that took."""
        now = asyncio.get_running_loop().time
        began_at = now()
        for client in tuple(self._due):
            self._write_safely(client)
            if (worked_seconds := now() - began_at) > BUSY_SECONDS:
                await asyncio.sleep(worked_seconds)
                began_at = now()

    def _write_safely(self, client: Listener) -> None:
        """One client that fails must not keep anything from the others."""
        try:
            self._write(client)
        except Exception:
            self._due.discard(client)
            logger.exception("%s could not be sent what is new", client.connection_id)

    def _write(self, client: Listener) -> None:
        """A client without room stays due."""
        if client not in self._due or not client.is_listening:  # it left while others were served
            return
        for portion in self._news_for(client):
            if not client.has_room:
                return
            self._served[client] = portion.last_turn
            if frames := portion.frames_for(client.user_id):
                client.write_many(frames)
        self._served[client] = self._turn
        self._joined.pop(client, None)
        self._due.discard(client)

    def _news_for(self, client: Listener) -> list[Portion]:
        """Return what the listener has not seen, in the order it came, through however many groups."""
        served, joined = self._served.get(client, 0), self._joined.get(client, {})
        recent = [
            (self._recent[audience], max(served, joined.get(audience, 0)))
            for audience in client.audiences
            if audience in self._recent
        ]
        if len(recent) == 1:
            [(only, turn)] = recent
            return only.portions_since(turn)
        in_order = sorted(chain.from_iterable(r.since(turn) for r, turn in recent), key=itemgetter(0))
        if self._pace_seconds is not None:
            in_order = list({envelope.author: (turn, envelope) for turn, envelope in in_order}.values())
            in_order.sort(key=itemgetter(0))
        return portions_of(in_order)
