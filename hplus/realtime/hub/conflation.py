"""Conflation: rate-limited delivery of positions and presence.

Five hundred paramedics who see each other make a quarter of a million positions a second, which no server
can write; a thousand phones that come back at once are half a million presence events. So these are not
written when they come: each client gets at most one batch per interval, less often where there is more to
write than half of the server's time allows. Of positions it gets the newest of each sender (`latest`), of
presence all (`live`), and no other event waits for any of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import chain, takewhile
from operator import itemgetter

from hplus.realtime.hub.listener import Audience, Listener
from hplus.realtime.publishing.envelopes import Envelope

logger = logging.getLogger(__name__)
FRAMES_AT_ONCE = 100  # a millisecond or two of writing
REMEMBERED = 1_000  # events of one audience that are not conflated to the newest
AGAIN_SECONDS = 0.05  # until a client without room is asked again


@dataclass(slots=True)
class Progress:
    """Up to which event one client has been served, and when it last was (seconds of the loop)."""

    turn: int = 0
    at: float = 0


class RecentEvents:
    """The events of one audience, in the order they came.

    With `only_newest` the newest of each author, else everything up to REMEMBERED, then the newest too.
    """

    def __init__(self, *, only_newest: bool) -> None:
        self._only_newest = only_newest
        self._events: dict[str | int, tuple[int, Envelope]] = {}

    def put(self, turn: int, envelope: Envelope) -> None:
        key = envelope.author if self._only_newest else turn
        self._events.pop(key, None)  # so that it stands last
        self._events[key] = (turn, envelope)
        if len(self._events) > REMEMBERED and not self._only_newest:
            newest = {envelope.author: turn for turn, envelope in self._events.values()}
            self._events = {turn: self._events[turn] for turn in sorted(newest.values())}

    def since(self, turn: int) -> list[tuple[int, Envelope]]:
        newer = takewhile(lambda event: event[0] > turn, reversed(self._events.values()))
        return list(newer)[::-1]

    def revoke(self, author: str, topic: str) -> None:
        revoked = {
            key
            for key, (_, envelope) in self._events.items()
            if (envelope.author, envelope.topic) == (author, topic)
        }
        for key in revoked:
            del self._events[key]


class Conflation:
    """Which clients have something new to get, and the one task that writes it.

    `interval_seconds` lie at least between two batches of one client; with `only_newest` a batch has the
    newest event of each author.
    """

    def __init__(self, interval_seconds: Callable[[], float], *, only_newest: bool) -> None:
        self._interval_seconds, self._only_newest = interval_seconds, only_newest
        self._turn = 0
        self._progress: defaultdict[Listener, Progress] = defaultdict(Progress)
        self._recent: dict[Audience, RecentEvents] = {}
        self._due: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None

    def begin(self, client: Listener) -> None:
        """A client gets what comes from now on."""
        self._progress[client].turn = self._turn

    def leave(self, client: Listener) -> None:
        self._due.discard(client)
        self._progress.pop(client, None)

    def forget(self, audience: Audience) -> None:
        """Nobody listens as this audience any more."""
        self._recent.pop(audience, None)

    def offer(self, audience: Audience, envelope: Envelope, listeners: Collection[Listener]) -> None:
        """To be written with each listener's next batch."""
        if not listeners:
            return
        self._turn += 1
        recent = self._recent.setdefault(audience, RecentEvents(only_newest=self._only_newest))
        recent.put(self._turn, envelope)
        self._due.update(listeners)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write_all())

    def revoke(self, author: str, topic: str) -> None:
        """What of this author and topic has not been written yet must not be written any more."""
        for recent in self._recent.values():
            recent.revoke(author, topic)

    async def _write_all(self) -> None:
        """In portions, each followed by a pause as long as it took, until nobody has anything to get."""
        now = asyncio.get_running_loop().time
        while self._due:
            await asyncio.sleep(self._seconds_to_next(now()))
            written, began_at = 0, now()
            for client in self._ready(now()):
                written += self._write_safely(client, now())
                if written >= FRAMES_AT_ONCE:
                    await self._let_others_work(began_at)
                    written, began_at = 0, now()
            await (self._let_others_work(began_at) if written else asyncio.sleep(AGAIN_SECONDS))

    @staticmethod
    async def _let_others_work(began_at: float) -> None:
        await asyncio.sleep(0)  # the outbound queues write
        await asyncio.sleep(asyncio.get_running_loop().time() - began_at)

    def _seconds_to_next(self, now: float) -> float:
        earliest = min(self._progress[client].at for client in self._due)
        return max(0.0, earliest + self._interval_seconds() - now)

    def _ready(self, now: float) -> list[Listener]:
        """Those who only watch before those who move, then who has waited longest."""
        at = {client: self._progress[client].at for client in self._due}
        before = now - self._interval_seconds()
        ready = [client for client in self._due if at[client] <= before]
        return sorted(ready, key=lambda client: (client.is_mobile, at[client]))

    def _write_safely(self, client: Listener, now: float) -> int:
        """One client that fails must not keep anything from the others."""
        try:
            return self._write(client, now)
        except Exception:
            self._due.discard(client)
            logger.exception("%s could not be sent what is new", client.connection_id)
            return 0

    def _write(self, client: Listener, now: float) -> int:
        """Return how many frames that were. A client without room is asked again."""
        if client not in self._due:  # it left while others were served
            return 0
        progress = self._progress[client]
        progress.at = now
        if not client.is_listening or not client.has_room:
            return 0
        self._due.discard(client)
        news, progress.turn = self._news_for(client, progress.turn), self._turn
        for envelope in news:
            client.write(envelope.frame)
        return len(news)

    def _news_for(self, client: Listener, turn: int) -> list[Envelope]:
        """In the order it came, through however many groups."""
        recent = [
            self._recent[audience].since(turn) for audience in client.audiences if audience in self._recent
        ]
        in_order = [envelope for _, envelope in sorted(chain.from_iterable(recent), key=itemgetter(0))]
        if self._only_newest:
            in_order = list({envelope.author: envelope for envelope in in_order}.values())
        return [envelope for envelope in in_order if client.user_id not in envelope.but]
