"""The ears of the notices: one line for each word."""

from __future__ import annotations

from hplus.notifications import actions, messages
from hplus.realtime.actions import Result
from hplus.realtime.consumers import DomainConsumer, handles
from hplus.realtime.publishing.envelopes import Envelope


class NotificationsConsumer(DomainConsumer):
    """What one socket says and hears of notices."""

    @handles(messages.Notify)
    def do(self, request: messages.Notify) -> Result:
        return actions.do(self.user, request)

    def on_event(self, envelope: Envelope) -> Envelope | None:
        """An announcement is for patients; staff have the same notice as a letter of their own."""
        is_announcement = envelope.event_type == messages.Announced.type and not envelope.event_id
        return None if is_announcement and not self.user.is_patient else envelope
