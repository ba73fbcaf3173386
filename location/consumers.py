"""Positions on one connection: which are stored at once, and which may wait for a batch."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial

from django.conf import settings
from django.utils import timezone

from hplus import errors
from hplus.accounts.models import Role
from hplus.realtime.actions import Result
from hplus.realtime.connection.client import Client
from hplus.realtime.consumers import DomainConsumer, handles, in_loop
from hplus.realtime.execution.delayed import Delayed
from hplus.realtime.publishing.envelopes import Envelope
from location import actions, messages
from location.fast_recording import FastRecording
from location.models import IS_SHARED_OR_ASKED_FOR
from location.recording import ReceivedPosition, Recorded, record_all

logger = logging.getLogger(__name__)
FAST_RECORDING = FastRecording()


class LocationConsumer(DomainConsumer):
    """The positions that one connection sends and sees."""

    watched_events = (messages.LocationSharingBegan, messages.LocationRequested)

    def __init__(self, client: Client | None = None) -> None:
        super().__init__(client)
        self.is_under_grant = False  # an open grant is about this user: no position may be lost
        self.is_awaited = False  # somebody waits for the next position of this user
        self.has_reported = False
        self.change_count = 0  # how often an event has changed one of the first two

    # What the client sends

    @in_loop(messages.UpdateLocation)
    def update_location(self, request: messages.UpdateLocation) -> Callable[[], Awaitable[Result]] | None:
        """Store a position that may not be lost before the next frame is read; batch the others."""
        received, change_count = ReceivedPosition(self.user, request, timezone.now()), self.change_count
        if self._must_be_durable(request):
            return partial(self._record, received, change_count)
        self._delayed().add(received, partial(self._recorded, change_count))
        return None

    async def _record(self, received: ReceivedPosition, change_count: int) -> Result:
        return self._apply(await self.client.hub.batches.of(record_all).submit(received), change_count)

    def _delayed(self) -> Delayed[ReceivedPosition]:
        batches = self.client.hub.batches
        return batches.delayed(FAST_RECORDING, record_all, settings.LOCATION_WRITE_SECONDS)

    def _must_be_durable(self, request: messages.UpdateLocation) -> bool:
        """Only the later positions of a paramedic between emergencies may wait."""
        is_marked = request.is_emergency or request.emergency_id is not None
        is_awaited = self.is_awaited or bool(request.request_id or request.client_message_id)
        is_routine = self.has_reported and self.user.role == Role.PARAMEDIC
        return is_marked or is_awaited or self.is_under_grant or not is_routine

    def _recorded(self, change_count: int, outcome: Recorded | Exception) -> None:
        if isinstance(outcome, Exception):
            unexpected = None if isinstance(outcome, errors.Refusal) else outcome
            logger.warning("A position was not recorded: %s", type(outcome).__name__, exc_info=unexpected)
        elif self._apply(outcome, change_count).events:
            self.client.later(0, lambda: outcome)

    def _apply(self, recorded: Recorded, change_count: int) -> Recorded:
        """Take over what the recording found, unless an event has changed it meanwhile."""
        self.has_reported = True
        if change_count == self.change_count:
            self.is_under_grant, self.is_awaited = recorded.is_under_grant, False
        return recorded

    @handles(messages.RequestLocation)
    def request_location(self, request: messages.RequestLocation) -> Result:
        return actions.request_location(self.user, request)

    @handles(messages.WatchLocations)
    def watch(self, request: messages.WatchLocations) -> Result:
        return actions.watch(self.user, request)

    arrival_probe = IS_SHARED_OR_ASKED_FOR

    def on_connect(self) -> Result:
        """Send the requests for a position that came while this user had no connection."""
        inquiries = actions.pending_inquiries(self.user)
        self.is_under_grant, self.is_awaited = actions.is_under_grant(self.user), bool(inquiries)
        return Result(events=inquiries)

    # What changes how positions are stored

    def on_event(self, envelope: Envelope) -> Envelope | None:
        if envelope.event_type == messages.LocationSharingBegan.type:
            self.is_under_grant, self.change_count = True, self.change_count + 1
            self._delayed().hurry()  # the latest position may wait in the batch
            return None
        if envelope.event_type == messages.LocationRequested.type:
            self.is_awaited, self.change_count = True, self.change_count + 1
        return envelope
