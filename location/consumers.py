"""The ears of location: what is said at once, and what may wait for the next."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from django.conf import settings
from django.utils import timezone

from hplus import errors
from hplus.accounts.models import Role
from hplus.realtime.actions import Result
from hplus.realtime.connection.client import Client
from hplus.realtime.consumers import DomainConsumer, handles, in_loop
from hplus.realtime.execution.batching import Batch
from hplus.realtime.publishing.envelopes import Envelope
from location import actions, messages
from location.recording import Heard, Recorded, record_all, record_batched

logger = logging.getLogger(__name__)
TOGETHER = 1000  # positions in one transaction, where they waited for each other


class LocationConsumer(DomainConsumer):
    """What one socket says and sees of positions."""

    def __init__(self, client: Client | None = None) -> None:
        super().__init__(client)
        self.is_under_grant = False  # our positions belong to one that must not lose any
        self.is_asked = False  # somebody waits for our next one
        self.has_spoken = False
        self.news = 0  # how often we have heard one of the first two

    # What we say

    @in_loop(messages.TellLocation)
    async def tell(self, request: messages.TellLocation) -> Result | None:
        """A position that matters is durable before the next frame is read; others share a transaction."""
        heard, news = Heard(self.user, request, timezone.now()), self.news
        if self._must_be_durable(request):
            return self._learn(await self.client.hub.batch(record_all).submit(heard), news)
        self._leisurely().add(heard).add_done_callback(partial(self._recorded, news))
        return None

    def _leisurely(self) -> Batch[Heard]:
        return self.client.hub.batch(record_batched, TOGETHER, settings.LOCATION_WRITE_SECONDS)

    def _must_be_durable(self, request: messages.TellLocation) -> bool:
        """Only a paramedic between emergencies can wait, after a first position that is known."""
        is_marked = request.is_emergency or request.emergency_id is not None
        is_awaited = self.is_asked or bool(request.request_id or request.client_message_id)
        is_routine = self.has_spoken and self.user.role == Role.PARAMEDIC
        return is_marked or is_awaited or self.is_under_grant or not is_routine

    def _recorded(self, news: int, outcome: asyncio.Future[Recorded]) -> None:
        if outcome.cancelled():
            return
        if broken := outcome.exception():
            unforeseen = None if isinstance(broken, errors.Refusal) else broken
            logger.warning("A position was not recorded: %s", type(broken).__name__, exc_info=unforeseen)
        elif self._learn(outcome.result(), news).events:
            self.client.later(0, outcome.result)

    def _learn(self, recorded: Recorded, news: int) -> Recorded:
        """What the record of a position tells, unless we have heard otherwise since it was told."""
        self.has_spoken = True
        if news == self.news:
            self.is_under_grant, self.is_asked = recorded.is_under_grant, False
        return recorded

    @handles(messages.AskLocation)
    def ask(self, request: messages.AskLocation) -> Result:
        return actions.ask(self.user, request)

    @handles(messages.WatchLocations)
    def watch(self, request: messages.WatchLocations) -> Result:
        return actions.watch(self.user, request)

    def on_connect(self) -> Result:
        """Who asked while this phone was away still waits for it."""
        inquiries = actions.pending_inquiries(self.user)
        self.is_under_grant, self.is_asked = actions.shares(self.user), bool(inquiries)
        return Result(events=inquiries)

    # What concerns what we say

    def on_event(self, envelope: Envelope) -> Envelope | None:
        if envelope.event_type == messages.LocationSharingBegan.type:
            self.is_under_grant, self.news = True, self.news + 1
            self._leisurely().hurry()  # our last one may be among those that wait
            return None
        if envelope.event_type == messages.LocationAsked.type:
            self.is_asked, self.news = True, self.news + 1
        return envelope
