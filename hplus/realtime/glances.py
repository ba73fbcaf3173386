"""What matters only while it is new: seen in glances, and never in the way of anything else.

Five hundred crews who see each other make a quarter of a million positions a second, which no
server can write; a thousand phones that come back at once are half a million words of who is
there. So these are not written when they come: each socket has a glance at what is new, at a pace,
and less often where there is more to see than half of the server's time can show. Of positions
it sees the newest then, and no other word waits for any of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import chain, takewhile
from operator import itemgetter
from typing import TYPE_CHECKING

from hplus.realtime.parcels import Parcel

if TYPE_CHECKING:
    from hplus.realtime.socket import Socket

logger = logging.getLogger(__name__)
FRAMES_AT_ONCE = 100  # a millisecond or two of writing
REMEMBERED = 1_000  # of what is not only the newest
AGAIN_SECONDS = 0.05  # until somebody who could not take anything is asked again

Audience = tuple[str, str]  # a group, and within it perhaps one person


@dataclass(slots=True)
class Glance:
    """How much of the news one socket has seen, and when it last looked (monotonic seconds)."""

    turn: int = 0
    at: float = 0


class News:
    """What one audience has been told, in the order it came.

    With `only_newest` it is the newest of each author, else everything, up to a bound from which
    on it is the newest too.
    """

    def __init__(self, *, only_newest: bool) -> None:
        self._only_newest = only_newest
        self._told: dict[str | int, tuple[int, Parcel]] = {}

    def put(self, turn: int, parcel: Parcel) -> None:
        key = parcel.author if self._only_newest else turn
        self._told.pop(key, None)  # so that it stands last
        self._told[key] = (turn, parcel)
        if len(self._told) > REMEMBERED and not self._only_newest:
            newest = {parcel.author: turn for turn, parcel in self._told.values()}
            self._told = {turn: self._told[turn] for turn in sorted(newest.values())}

    def since(self, turn: int) -> list[tuple[int, Parcel]]:
        newer = takewhile(lambda entry: entry[0] > turn, reversed(self._told.values()))
        return list(newer)[::-1]

    def withdraw(self, author: str, topic: str) -> None:
        is_it = {
            key for key, (_, parcel) in self._told.items() if (parcel.author, parcel.topic) == (author, topic)
        }
        for key in is_it:
            del self._told[key]


class Glances:
    """Who has something new to see, and the one task that shows it.

    `pace_seconds` lie at least between two glances of one socket; with `only_newest` it then sees
    the newest of each author.
    """

    def __init__(self, pace_seconds: Callable[[], float], *, only_newest: bool) -> None:
        self._pace_seconds, self._only_newest = pace_seconds, only_newest
        self._turn = 0
        self._glances: defaultdict[Socket, Glance] = defaultdict(Glance)
        self._news: dict[Audience, News] = {}
        self._due: set[Socket] = set()
        self._task: asyncio.Task[None] | None = None

    def begin(self, socket: Socket) -> None:
        """A socket sees what comes from now on."""
        self._glances[socket].turn = self._turn

    def leave(self, socket: Socket) -> None:
        self._due.discard(socket)
        self._glances.pop(socket, None)

    def forget(self, audience: Audience) -> None:
        """Nobody listens here any more."""
        self._news.pop(audience, None)

    def offer(self, audience: Audience, parcel: Parcel, listeners: Collection[Socket]) -> None:
        """To be seen with the next glance."""
        if not listeners:
            return
        self._turn += 1
        self._news.setdefault(audience, News(only_newest=self._only_newest)).put(self._turn, parcel)
        self._due.update(listeners)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._show_all())

    def withdraw(self, author: str, topic: str) -> None:
        """What of this matter has not been seen yet must not be seen any more."""
        for news in self._news.values():
            news.withdraw(author, topic)

    async def _show_all(self) -> None:
        """In portions, each followed by a pause as long as it took, until nobody has anything to see."""
        now = asyncio.get_running_loop().time
        while self._due:
            await asyncio.sleep(self._seconds_to_next(now()))
            written, began_at = 0, now()
            for socket in self._ready(now()):
                written += self._show_to(socket, now())
                if written >= FRAMES_AT_ONCE:
                    await self._let_others_work(began_at)
                    written, began_at = 0, now()
            await (self._let_others_work(began_at) if written else asyncio.sleep(AGAIN_SECONDS))

    @staticmethod
    async def _let_others_work(began_at: float) -> None:
        await asyncio.sleep(0)  # the outboxes write
        await asyncio.sleep(asyncio.get_running_loop().time() - began_at)

    def _seconds_to_next(self, now: float) -> float:
        return max(0.0, min(self._glances[socket].at for socket in self._due) + self._pace_seconds() - now)

    def _ready(self, now: float) -> list[Socket]:
        """Who only watches before who moves, then who has waited longest."""
        at, before = {socket: self._glances[socket].at for socket in self._due}, now - self._pace_seconds()
        ready = [socket for socket in self._due if at[socket] <= before]
        return sorted(ready, key=lambda socket: (socket.is_mobile, at[socket]))

    def _show_to(self, socket: Socket, now: float) -> int:
        """One socket that can't be shown it must not keep it from the others."""
        try:
            return self._show(socket, now)
        except Exception:
            self._due.discard(socket)
            logger.exception("%s could not be shown what is new", socket.connection_id)
            return 0

    def _show(self, socket: Socket, now: float) -> int:
        """How many frames that were. Who can't take any now is asked again."""
        if socket not in self._due:  # it left while others were shown
            return 0
        glance = self._glances[socket]
        glance.at = now
        if not socket.is_listening or not socket.outbox.has_room:
            return 0
        self._due.discard(socket)
        news, glance.turn = self._news_for(socket, glance.turn), self._turn
        for parcel in news:
            socket.outbox.put(parcel.frame)
        return len(news)

    def _news_for(self, socket: Socket, turn: int) -> list[Parcel]:
        """In the order it came, through however many groups."""
        told = [self._news[audience].since(turn) for audience in socket.audiences if audience in self._news]
        in_order = [parcel for _, parcel in sorted(chain.from_iterable(told), key=itemgetter(0))]
        if self._only_newest:
            in_order = list({parcel.author: parcel for parcel in in_order}.values())
        return [parcel for parcel in in_order if socket.user_id not in parcel.but]
