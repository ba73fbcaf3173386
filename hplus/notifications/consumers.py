"""The requests and events of notices on one connection."""

from __future__ import annotations

from hplus.notifications import actions, messages
from hplus.realtime.actions import Result
from hplus.realtime.consumers import DomainConsumer, handles
from hplus.realtime.publishing.envelopes import Envelope


class NotificationsConsumer(DomainConsumer):
    """Notices on one connection."""

    watched_events = (messages.Announced,)

    @handles(messages.Notify)
    def do(self, request: messages.Notify) -> Result:
        return actions.do(self.user, request)

    def on_event(self, envelope: Envelope) -> Envelope | None:
        """Drop announcements for staff, who get the same notice through their mailbox."""
        return None if not envelope.event_id and not self.user.is_patient else envelope
