"""The ears of the notices: one line for each word."""

from __future__ import annotations

from hplus.notifications import actions, messages
from hplus.realtime.answers import Answer
from hplus.realtime.consumers import DomainConsumer, handles
from hplus.realtime.parcels import Parcel


class NotificationsConsumer(DomainConsumer):
    """What one socket says and hears of notices."""

    @handles(messages.Notify)
    def do(self, request: messages.Notify) -> Answer:
        return actions.do(self.user, request)

    def hear(self, parcel: Parcel) -> Parcel | None:
        """An announcement is for patients; staff have the same notice as a letter of their own."""
        is_announcement = parcel.word == messages.Announced.type and not parcel.event_id
        return None if is_announcement and not self.user.is_patient else parcel
