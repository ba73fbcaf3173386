"""The ears of location: what is said at once, and what may wait for the next."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from django.conf import settings
from django.utils import timezone

from hplus import errors
from hplus.accounts.models import Role
from hplus.realtime.answers import Answer
from hplus.realtime.batches import Batch
from hplus.realtime.consumers import DomainConsumer, handles, in_loop
from hplus.realtime.parcels import Parcel
from hplus.realtime.socket import Socket
from location import actions, messages
from location.recording import Heard, Recorded, record_all, record_at_leisure

logger = logging.getLogger(__name__)
TOGETHER = 1000  # positions in one transaction, where they waited for each other


class LocationConsumer(DomainConsumer):
    """What one socket says and sees of positions."""

    def __init__(self, socket: Socket | None = None) -> None:
        super().__init__(socket)
        self.is_in_matter = False  # our positions belong to one that must not lose any
        self.is_asked = False  # somebody waits for our next one
        self.has_spoken = False
        self.news = 0  # how often we have heard one of the first two

    # What we say

    @in_loop(messages.TellLocation)
    async def tell(self, request: messages.TellLocation) -> Answer | None:
        """A position that matters is durable before the next frame is read; others share a transaction."""
        heard, news = Heard(self.user, request, timezone.now()), self.news
        if self._matters(request):
            return self._learn(await self.socket.board.batch(record_all).submit(heard), news)
        self._leisurely().add(heard).add_done_callback(partial(self._recorded, news))
        return None

    def _leisurely(self) -> Batch[Heard]:
        return self.socket.board.batch(record_at_leisure, TOGETHER, settings.LOCATION_WRITE_SECONDS)

    def _matters(self, request: messages.TellLocation) -> bool:
        """Only a paramedic between emergencies can wait, after a first position that is known."""
        is_marked = request.is_emergency or request.emergency_id is not None
        is_awaited = self.is_asked or bool(request.request_id or request.client_message_id)
        is_routine = self.has_spoken and self.user.role == Role.PARAMEDIC
        return is_marked or is_awaited or self.is_in_matter or not is_routine

    def _recorded(self, news: int, outcome: asyncio.Future[Recorded]) -> None:
        if outcome.cancelled():
            return
        if broken := outcome.exception():
            unforeseen = None if isinstance(broken, errors.Refusal) else broken
            logger.warning("A position was not recorded: %s", type(broken).__name__, exc_info=unforeseen)
        elif self._learn(outcome.result(), news).says:
            self.socket.later(0, outcome.result)

    def _learn(self, recorded: Recorded, news: int) -> Recorded:
        """What the record of a position tells, unless we have heard otherwise since it was told."""
        self.socket.is_mobile = self.has_spoken = True
        if news == self.news:
            self.is_in_matter, self.is_asked = recorded.is_in_matter, False
        return recorded

    @handles(messages.AskLocation)
    def ask(self, request: messages.AskLocation) -> Answer:
        return actions.ask(self.user, request)

    def greet(self) -> Answer:
        """Who asked while this phone was away still waits for it."""
        inquiries = actions.pending_inquiries(self.user)
        self.is_in_matter, self.is_asked = actions.shares(self.user), bool(inquiries)
        return Answer(says=inquiries)

    # What concerns what we say

    def hear(self, parcel: Parcel) -> Parcel | None:
        if parcel.word == messages.LocationSharingBegan.type:
            self.is_in_matter, self.news = True, self.news + 1
            self._leisurely().hurry()  # our last one may be among those that wait
            return None
        if parcel.word == messages.LocationAsked.type:
            self.is_asked, self.news = True, self.news + 1
        return parcel
