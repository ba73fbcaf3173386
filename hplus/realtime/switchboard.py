"""One per server process: which sockets are here, and what arrives for them.

The process listens with one channel; the groups on the layer tell it what to listen to, and
it tells its own sockets. Letters pass through a slot per person.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from django.conf import settings

from hplus import metrics
from hplus.realtime import announcer, bridge, pace, presence, rounds, words
from hplus.realtime.batches import MOST, Batch
from hplus.realtime.door import door
from hplus.realtime.glances import Audience, Glances
from hplus.realtime.groups import PERSONS, Group
from hplus.realtime.limits import Buckets, breath_of_a_user, bucket_of_a_user
from hplus.realtime.parcels import Post
from hplus.realtime.slot import Slot, hand_over
from hplus.realtime.subscriptions import Subscriptions

if TYPE_CHECKING:
    from hplus.realtime.socket import Socket

logger = logging.getLogger(__name__)


class Switchboard:
    """Sockets by group and by person, and the tasks that serve them."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.announcer = announcer.Announcer(self.loop, here=self._route, seats=self._seats)
        self.server = rounds.Server()
        self.sockets: set[Socket] = set()
        self.slots: dict[str, Slot] = {}
        self.credits = Buckets(bucket_of_a_user)  # of messages, per user
        self.breath = Buckets(breath_of_a_user)  # of frames, per user
        self._glances = {
            "paced": Glances(lambda: settings.LOCATION_PACE_SECONDS, only_newest=True),
            "prompt": Glances(lambda: 0, only_newest=False),
        }
        self.is_draining = False
        self._groups: dict[str, set[Socket]] = defaultdict(set)
        self._subscriptions = Subscriptions(self._groups)
        self._batches: dict[Callable[..., Any], Batch[Any]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    # Starting and stopping

    @classmethod
    async def of_this_process(cls) -> Switchboard:
        """The switchboard of the running loop, started at the first call."""
        global _current
        loop = asyncio.get_running_loop()
        if _current is None or _current.loop is not loop:
            _current = cls()
            _current.start()
        return _current

    def start(self) -> None:
        announcer.speak_from(self.announcer)
        metrics.sockets.set_function(lambda: len(self.sockets))
        door.open()
        pace.forget()
        self._tasks = [
            self.loop.create_task(supervised(self._listen)),
            self.loop.create_task(supervised(self._make_rounds)),
        ]

    async def stop(self, grace_seconds: float = 5) -> None:
        """Answer what has been accepted, then let everyone go with 1012; nothing waits for ever."""
        global _current
        self.is_draining = True
        await _within(grace_seconds + 1, *(s.finish(1012, grace_seconds) for s in tuple(self.sockets)))
        await _within(1, *(batch.drained() for batch in self._batches.values()))
        await _within(1, self.announcer.drained(), bridge.in_thread(self.server.retire))
        for task in self._tasks:
            task.cancel()
        await _within(1, *self._tasks)
        announcer.speak_from(None)
        if _current is self:
            _current = None

    # Who listens to what

    def _seats(self, user_id: str) -> bool:
        """Whether this user has a registered socket here, whose departure will be looked into."""
        slot = self.slots.get(user_id)
        return slot is not None and slot.last_seq is not None

    def seat(self, socket: Socket) -> Slot:
        self.sockets.add(socket)
        slot = self.slots.get(socket.user_id)
        if slot is None:
            slot = self.slots[socket.user_id] = Slot(socket.user_id)
        slot.sockets.add(socket)
        for glances in self._glances.values():
            glances.begin(socket)
        return slot

    async def join(self, socket: Socket, groups: list[Group]) -> None:
        """Subscribe; where the layer is away this ends after a moment and a later round makes up for it."""
        names = {group.name for group in groups}
        socket.group_names |= names
        for name in names:
            self._groups[name].add(socket)
        self._subscriptions.joined(names)
        try:
            await asyncio.wait_for(asyncio.shield(self._subscriptions.settle()), 2)
        except TimeoutError:
            logger.warning("The channel layer does not answer; subscriptions will follow")

    def leave(self, socket: Socket) -> None:
        self.sockets.discard(socket)
        for glances in self._glances.values():
            glances.leave(socket)
        for name in socket.group_names:
            self._groups[name].discard(socket)
            if not self._groups[name]:
                del self._groups[name]
                self._subscriptions.left(name)
                self._nobody_hears((name, ""))
        slot = self.slots.get(socket.user_id)
        if slot is not None:
            slot.sockets.discard(socket)
            if not slot.sockets:
                del self.slots[socket.user_id]
                self._nobody_hears((PERSONS, socket.user_id))

    def _nobody_hears(self, audience: Audience) -> None:
        for glances in self._glances.values():
            glances.forget(audience)

    # What arrives

    async def _listen(self) -> None:
        await self._subscriptions.begin()
        while True:
            message = await self._subscriptions.receive()
            for post in self.announcer.posts_of(message):
                self._route(post)

    def _route(self, post: Post) -> None:
        """To the sockets here: a letter through its slot, anything else as it is."""
        for user_id, seq in post.parcel.seqs.items():
            if slot := self.slots.get(user_id):
                slot.receive(seq, post.parcel)
        if post.parcel.event_id:
            return
        if kind := words.fleeting().get(post.parcel.word):
            self._glances[kind].offer((post.group, post.person), post.parcel, self._listeners(post))
            return
        if post.parcel.word in words.withdrawing():
            for glances in self._glances.values():
                glances.withdraw(post.parcel.author, post.parcel.topic)
        for socket in self._listeners(post):
            if socket.user_id not in post.parcel.but:
                hand_over(socket, post.parcel)

    def _listeners(self, post: Post) -> tuple[Socket, ...]:
        if post.person:
            slot = self.slots.get(post.person)
            return tuple(slot.sockets) if slot else ()
        return tuple(self._groups.get(post.group, ()))

    # Rounds: what a lost wake-up, a revoked session or a dead neighbour left to do

    async def _make_rounds(self) -> None:
        while True:
            await asyncio.sleep(settings.ROUND_SECONDS)
            await self.make_round()

    async def make_round(self) -> None:
        """Compare this process with the database. Raises nothing: a frozen database is for the next round."""
        here = tuple(self.sockets)
        connections = [socket.connection for socket in here if socket.connection is not None]
        browsers = {socket.identity.browser_session for socket in here} - {""}
        try:
            found = await bridge.in_round(rounds.look, self.server, connections, browsers)
            if found.was_taken_for_dead:
                await bridge.in_round(presence.come_back, connections)
        except Exception as unreachable:
            logger.warning("A round failed: %s", type(unreachable).__name__)
            return
        for user_id, last_seq in found.last_seqs:
            slot = self.slots.get(user_id)
            if slot and slot.last_seq is not None and slot.last_seq < last_seq:
                slot.catch_up_to(last_seq)
        for socket in here:
            if refusal := found.refusal_for(socket):
                self.loop.create_task(socket.expel(refusal))
        await self._resubscribe()

    async def _resubscribe(self) -> None:
        try:
            await asyncio.wait_for(self._subscriptions.settle(), settings.ROUND_SECONDS)
        except Exception as unreachable:
            logger.warning("The channel layer does not answer: %s", type(unreachable).__name__)

    # The hot lane

    def batch(self, action: Callable[..., Any], most: int = MOST, every_seconds: float = 0) -> Batch[Any]:
        """The one queue of this process in front of an action that takes a list."""
        if action not in self._batches:
            self._batches[action] = Batch(action, most, every_seconds)
        return self._batches[action]


_current: Switchboard | None = None


async def _within(seconds: float, *works: Awaitable[object]) -> None:
    """Wait so long and no longer; what fails while everything ends is of no consequence."""
    tasks = [asyncio.ensure_future(work) for work in works]
    if not tasks:
        return
    done, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        task.cancel()
    failed = [task for task in done if not task.cancelled() and task.exception() is not None]
    if late or failed:
        logger.warning("At the end %s were late and %s failed", len(late), len(failed))


async def supervised(work: Callable[[], Awaitable[None]]) -> None:
    """Run for ever; what breaks is logged and begun again, so nobody goes deaf in silence."""
    while True:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("%s broke and is begun again", work.__name__)
            await asyncio.sleep(1)
